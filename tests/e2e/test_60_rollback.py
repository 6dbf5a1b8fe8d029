"""A bad model under load: taken back within seconds, remembered, not tried again, and no obstacle to the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from dev.common.deployment import Deployment
from dev.common.follow import Follower
from dev.common.kubectl import Kubectl, condition
from dev.common.traffic import Answer, failed, rollback_seconds
from dev.common.waiting import until
from dev.load import Records
from tests.e2e.support import ONE_CANDIDATE, described, load_on

pytestmark = pytest.mark.usefixtures("quiet")

LIMIT_SECONDS = 10.0
LATENCY_SECONDS = 0.05


@dataclass(frozen=True)
class Breakage:
    """A model that breaks an objective; `is_bad` tells by an answer whether it did.

    `rate` is in requests a second, `weight` in percent, and `texts` names the fixture that is sent.
    """

    uri: str
    rate: float
    weight: int
    texts: str
    objective: dict[str, Any]
    is_bad: Callable[[Answer], bool]


SLOW = Breakage(
    "moderation-slow",
    20.0,
    20,
    "long_texts",
    {"latency": f"{LATENCY_SECONDS * 1000:.0f}ms", "target": 0.95},
    lambda answer: answer.failed or answer.seconds > LATENCY_SECONDS,
)
FLAKY = Breakage("moderation-flaky", 60.0, 25, "flaky_texts", {"availability": 0.999}, lambda answer: answer.failed)
BREAKAGES = {"slow": SLOW, "flaky": FLAKY}


@dataclass(frozen=True)
class Told:
    """What was seen while a bad canary came and went."""

    deployment: Deployment
    breakage: Breakage
    old: str
    canary: str
    answers: Records
    status: dict[str, Any]
    messages: list[str]


@pytest.fixture(scope="module", params=list(BREAKAGES))
def told(
    request: pytest.FixtureRequest,
    kubectl: Kubectl,
    engines: dict[str, Deployment],
    space: str,
) -> Iterator[Told]:
    breakage = BREAKAGES[request.param]
    name = f"broken-{request.param}"
    deployment = described(
        kubectl,
        space,
        name,
        "moderation-v1",
        engine=ONE_CANDIDATE,
        slo={"objectives": [breakage.objective]},
        rollout={"steps": [{"weight": breakage.weight}], "analysis": {"minRequests": 2000}, "watch": "1m"},
    )
    deployment.apply()
    old = deployment.wait_ready(180)["stable"]["revision"]
    with (
        Follower(kubectl, name, space) as follower,
        load_on(deployment, request.getfixturevalue(breakage.texts), breakage.rate) as load,
    ):
        deployment.change_uri(f"pvc://models/{breakage.uri}")
        status = until(
            "a rejection",
            lambda: (found := deployment.status()).get("rejected") and found,
            400,
            last=deployment.picture,
        )
        time.sleep(6.0)
    canary = status["rejected"][-1]["revision"]
    yield Told(deployment, breakage, old, canary, load.records(), deployment.status(), follower.messages())
    kubectl.delete("tdep", name, space)


def test_all_traffic_is_on_stable_within_ten_seconds(told: Told, words: Callable[[str], None]) -> None:
    seconds = rollback_seconds(told.answers, told.canary, told.breakage.is_bad)
    its = [answer for answer in told.answers if answer.revision == told.canary]
    bad = [answer for answer in its if told.breakage.is_bad(answer)]
    words(
        f"rollback of {told.breakage.uri}: {seconds} s from the first of {len(bad)} bad answers to all traffic on stable"
    )
    assert seconds is not None
    assert seconds <= LIMIT_SECONDS
    assert told.answers[-20:].revisions() == [told.old]
    others = [answer for answer in failed(told.answers) if answer.revision != told.canary]
    assert not others, others[:5]


def test_the_rejection_is_told_with_its_figures(told: Told, kubectl: Kubectl) -> None:
    rejection = told.status["rejected"][-1]
    assert rejection["reason"] == "ObjectiveBreached"
    assert rejection["uri"] == f"pvc://models/{told.breakage.uri}"
    assert "requests" in rejection["message"]
    assert rejection["firstBadAt"]
    stalled = condition({"status": told.status}, "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "RolledBack")
    assert "change the spec" in stalled["message"]
    assert told.status["message"].startswith(f"rolled back to {told.old}")
    assert told.status["stable"]["revision"] == told.old
    assert all(told.messages)
    events = kubectl.items("events", told.deployment.namespace)
    assert "RolledBack" in {e["reason"] for e in events if e["involvedObject"]["name"] == told.deployment.name}


def test_the_spec_is_as_its_owner_wrote_it(told: Told) -> None:
    assert told.deployment.difference() == ""
    assert told.deployment.body()["spec"]["model"]["uri"] == f"pvc://models/{told.breakage.uri}"


def test_the_same_content_is_not_tried_again(told: Told, kubectl: Kubectl) -> None:
    deployment = told.deployment
    kubectl("annotate", "tdep", deployment.name, "-n", deployment.namespace, "--overwrite", f"touched={time.time()}")
    changed = {**deployment.manifest["spec"]["rollout"], "watch": "2m"}
    deployment.manifest["spec"]["rollout"] = changed
    deployment.apply()
    until("the operator to see the change", deployment.status, 30)
    ends = time.monotonic() + 8
    while time.monotonic() < ends:
        status = deployment.status()
        assert "canary" not in status, status.get("canary")
        time.sleep(0.5)
    assert len(deployment.status()["rejected"]) == 1


def test_a_further_change_is_tried(told: Told) -> None:
    deployment = told.deployment
    deployment.manifest["spec"]["rollout"] = {"steps": []}
    deployment.manifest["spec"]["engine"] = {}
    deployment.change_uri("pvc://models/moderation-v2")
    status = deployment.wait_ready(400)
    assert status["stable"]["revision"] not in (told.old, told.canary)
    assert [r["revision"] for r in status["rejected"]] == [told.canary]
