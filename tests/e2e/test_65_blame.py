"""Canaries that are bad in different ways: each is taken back, and the reason says where the time went."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from dev.common.deployment import Deployment
from dev.common.kubectl import Kubectl
from dev.common.waiting import until
from tests.e2e.support import ONE_CANDIDATE, described, load_on

pytestmark = pytest.mark.usefixtures("quiet")

RATE = 12.0
"""The canary's share keeps the slow tokenizer busy a third of the time: stable must not be slowed by it."""
WEIGHT = 20
LONG_EVERY = 5
"""One in so many texts is long, where most are short."""


@dataclass(frozen=True)
class Trouble:
    """A change of the spec and what must be blamed for it; `words` are in the reason, `texts` are what is sent."""

    stage: str
    words: tuple[str, ...]
    texts: str
    uri: str = "moderation-v1"
    batching: dict[str, str] | None = None


TROUBLES = {
    "long": Trouble("Compute", ("compute took",), "mixed", uri="moderation-slow"),
    "tokenizer": Trouble("PreProcessing", ("pre-processing took",), "long", uri="moderation-slow-tokenizer"),
    "queue": Trouble("Queue", ("waiting in the queue took",), "short", batching={"maxQueueDelay": "200ms"}),
}


@dataclass(frozen=True)
class Told:
    """The status after the rollback, and the Events about it."""

    trouble: Trouble
    canary: str
    status: dict[str, Any]
    events: list[dict[str, Any]]


@pytest.fixture(scope="module")
def sent(texts: list[str], long_texts: list[str]) -> dict[str, list[str]]:
    mixed = [long_texts[i % len(long_texts)] if i % LONG_EVERY == 0 else text for i, text in enumerate(texts)]
    return {"short": texts, "long": long_texts, "mixed": mixed}


def changed(deployment: Deployment, trouble: Trouble) -> None:
    deployment.manifest = copy.deepcopy(deployment.manifest)
    spec = deployment.manifest["spec"]
    spec["model"]["uri"] = f"pvc://models/{trouble.uri}"
    if trouble.batching:
        spec["serving"]["batching"] = trouble.batching
    deployment.apply()


def explained(status: dict[str, Any]) -> dict[str, Any] | None:
    """The status once it says what is to blame: spans of slow requests come after the verdict."""
    blame = status.get("analysis", {}).get("blame", {})
    return status if blame.get("stage", "Unknown") != "Unknown" else None


@pytest.fixture(scope="module", params=list(TROUBLES))
def told(
    request: pytest.FixtureRequest,
    kubectl: Kubectl,
    engines: dict[str, Deployment],
    space: str,
    sent: dict[str, list[str]],
) -> Iterator[Told]:
    trouble = TROUBLES[request.param]
    name = f"blame-{request.param}"
    deployment = described(
        kubectl,
        space,
        name,
        "moderation-v1",
        engine=ONE_CANDIDATE,
        slo={"objectives": [{"latency": "50ms", "target": 0.95}]},
        rollout={"steps": [{"weight": WEIGHT}], "analysis": {"minRequests": 2000}, "watch": "1m"},
    )
    deployment.apply()
    old = deployment.wait_ready(180)["stable"]["revision"]
    with load_on(deployment, sent[trouble.texts], RATE):
        changed(deployment, trouble)
        status = until(
            "a rejection",
            lambda: (found := deployment.status()).get("rejected") and found,
            600,
            last=deployment.picture,
        )
        status = until("the blame", lambda: explained(deployment.status()), 15, last=deployment.picture)
    assert status["stable"]["revision"] == old

    def told_of() -> list[dict[str, Any]]:
        found = [event for event in kubectl.items("events", space) if event["involvedObject"]["name"] == name]
        return [event for event in found if status["analysis"]["blame"]["message"] in event["message"]]

    events = until("an Event with the blame", told_of, 10)
    yield Told(trouble, status["rejected"][-1]["revision"], status, events)
    kubectl.delete("tdep", name, space)


def test_the_status_names_the_culprit(told: Told, words: Callable[[str], None]) -> None:
    analysis = told.status["analysis"]
    assert analysis["revision"] == told.canary
    found = analysis["blame"]
    words(f"blame of {told.trouble.uri} ({told.trouble.stage} expected): {found['stage']}, {found['message']}")
    assert found["stage"] == told.trouble.stage, found
    assert 0.5 <= found["share"] <= 1
    assert found["objective"] == "95% within 50ms"


def test_the_reason_and_the_event_have_the_figures_and_traces_of_slow_requests(told: Told) -> None:
    reason = told.status["rejected"][-1]["message"]
    event = told.events[-1]["message"]
    traces = told.status["analysis"]["blame"]["exemplars"]
    assert traces
    assert all(len(bytes.fromhex(trace)) == 16 for trace in traces)
    for message in (reason, event):
        for wanted in (*told.trouble.words, "of the difference", traces[0]):
            assert wanted in message, message
