"""What can only be found out by trying is told as a condition with a reason and a remedy, and holds up nobody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from dev.common.deployment import Deployment
from dev.common.kubectl import Kubectl, condition
from tests.e2e.support import ONE_CANDIDATE, SMALL, Make, described


@dataclass(frozen=True)
class Bad:
    """A deployment that can't succeed, and what it must tell: the reason, and words of the cause and of the remedy."""

    name: str
    uri: str
    reason: str
    words: tuple[str, ...]
    spec: dict[str, Any] = field(default_factory=dict)


EVALUATION = {
    "dataset": {"uri": "pvc://models/data/moderation/evaluation.csv"},
    "metrics": [{"name": "accuracy", "min": 0.9999}],
}
NOWHERE = {"template": {"resources": SMALL, "buildResources": SMALL, "nodeSelector": {"tapchanger.dev/e2e": "nowhere"}}}
BAD = (
    Bad("missing", "no-such-model", "ModelNotFound", ("no-such-model", "spec.model.uri")),
    Bad("no-claim", "pvc://nothing/model", "ClaimMissing", ("PersistentVolumeClaim nothing", "create it or change")),
    Bad("pickle", "moderation-pickle", "PickleCheckpoint", ("pickle", "safetensors")),
    Bad("digest", f"pvc://models/moderation-v1@sha256:{'0' * 64}", "DigestMismatch", ("sha256:", "0" * 64)),
    Bad("headless", "moderation-headless", "TaskMismatch", ("text-classification",)),
    Bad("nowhere", "moderation-v1", "NoNodeFits", ("node",), {"serving": NOWHERE}),
    Bad(
        "gates",
        "moderation-v1",
        "GateFailed",
        ("accuracy", "0.9999"),
        {"engine": {**ONE_CANDIDATE, "gates": {"evaluation": EVALUATION}}},
    ),
)


@pytest.fixture(scope="module")
def bad(kubectl: Kubectl, space: str) -> Iterator[dict[str, Deployment]]:
    """All of them at once, in the company of good ones."""
    made = {one.name: described(kubectl, space, one.name, one.uri, **one.spec) for one in BAD}
    for deployment in made.values():
        deployment.apply()
    yield made
    for name in made:
        kubectl.delete("tdep", name, space)


@pytest.fixture(scope="module")
def alone(kubectl: Kubectl, space: str, engines: dict[str, Deployment]) -> float:
    """Seconds until a deployment of a known engine is ready while nothing else is going on."""
    return seconds_to_ready(described(kubectl, space, "alone", "moderation-v1"))


def seconds_to_ready(deployment: Deployment) -> float:
    began = time.monotonic()
    deployment.apply()
    deployment.wait_ready(180)
    took = time.monotonic() - began
    deployment.kubectl.delete("tdep", deployment.name, deployment.namespace)
    return took


@pytest.mark.parametrize("one", BAD, ids=lambda one: one.name)
def test_it_stalls_with_a_reason_and_a_remedy(alone: float, bad: dict[str, Deployment], one: Bad) -> None:
    status = bad[one.name].wait_condition("Stalled", "True", 300)
    stalled, ready = condition({"status": status}, "Stalled"), condition({"status": status}, "Ready")
    assert stalled["reason"] == ready["reason"] == one.reason, stalled
    missing = [words for words in one.words if words not in stalled["message"]]
    assert not missing, f"{missing} not in: {stalled['message']}"
    assert status["message"] == stalled["message"]
    assert ready["status"] == "False"


def test_bad_ones_do_not_slow_a_good_one(
    kubectl: Kubectl, space: str, alone: float, bad: dict[str, Deployment], make: Make, words: Callable[[str], None]
) -> None:
    for one in BAD:
        bad[one.name].wait_condition("Stalled", "True", 300)
    among = seconds_to_ready(make("among", "moderation-v1"))
    words(f"seconds from apply to Ready with a known engine: {alone:.1f} alone, {among:.1f} among {len(BAD)} bad ones")
    assert among < 1.5 * alone + 5


def test_a_bad_one_gets_well_when_its_spec_does(bad: dict[str, Deployment]) -> None:
    deployment = bad["missing"]
    deployment.wait_condition("Stalled", "True", 120)
    deployment.change_uri("pvc://models/moderation-v1")
    status = deployment.wait_ready(180)
    assert condition({"status": status}, "Stalled")["status"] == "False"
