"""A rollback that nothing could be blamed for is explained once the spans are there."""

from __future__ import annotations

from typing import Any

from tapchanger_operator.api import reasons
from tapchanger_operator.api.base import timestamp
from tapchanger_operator.api.spec import TransformerDeploymentSpec
from tapchanger_operator.api.status import TransformerDeploymentStatus
from tapchanger_operator.decide import afterwards
from tapchanger_operator.decide.state import Outcome, State
from tapchanger_serving.contract.windows import LatencyCount, RevisionWindow, SlowStages, Stages, Windows
from tests.support.samples import MODEL

T0 = 1_700_000_000.0
SPEC = TransformerDeploymentSpec.model_validate(
    {"model": MODEL, "slo": {"objectives": [{"latency": "50ms", "target": 0.95}]}}
)
UNKNOWN = "where the time went is not known: servers have told of 2 slow requests only"
KNOWN = Stages(queue=0.001, compute=0.2, pre=0.001, post=0.001, network=0.001, seconds=0.204, spans=12, joined=12)
USUAL = Stages(queue=0.001, compute=0.005, pre=0.001, post=0.001, network=0.001, seconds=0.009, spans=40, joined=40)


def status(stage: str = "Unknown", **changes: Any) -> TransformerDeploymentStatus:
    revision = {"build": "eb-1", "uri": "pvc://models/b"}
    message = f"4 of 4 requests took longer than 50 ms (100 %); {UNKNOWN}"
    blame = {"stage": stage, "objective": "95% within 50ms", "message": UNKNOWN}
    given = {
        "stable": {**revision, "revision": "aaaa", "weight": 100, "since": timestamp(T0 - 100)},
        "retiring": [{**revision, "revision": "bbbb", "since": timestamp(T0), "until": timestamp(T0 + 12)}],
        "rejected": [{**revision, "revision": "bbbb", "at": timestamp(T0 + 2), "reason": "x", "message": message}],
        "analysis": {
            "revision": "bbbb", "verdict": "Fail", "reason": "x", "message": message, "at": timestamp(T0 + 2),
            "blame": blame,
        },
    }  # fmt: skip
    return TransformerDeploymentStatus.model_validate({**given, **changes})


def windows(slow: Stages) -> Windows:
    canary = RevisionWindow(
        revision="bbbb",
        requests=12,
        over=(LatencyCount(threshold=0.05, bad=12),),
        stages=slow,
        slow=(SlowStages(threshold=0.05, stages=slow),),
    )
    stable = RevisionWindow(revision="aaaa", requests=400, over=(LatencyCount(threshold=0.05, bad=0),), stages=USUAL)
    return Windows(namespace="n", deployment="d", now=T0 + 5, since=T0, until=T0 + 5, revisions=(canary, stable))


def test_spans_that_come_later_explain_the_rollback() -> None:
    before = status()
    assert afterwards.due(before) == T0
    outcome, analysis = afterwards.explain(SPEC, before, Outcome(State.of(before)), before.analysis, windows(KNOWN))
    assert analysis is not None
    assert analysis.blame is not None
    assert analysis.blame.stage == "Compute"
    for message in (analysis.message, outcome.state.rejected[0].message):
        assert message.startswith("4 of 4 requests took longer than 50 ms (100 %); compute took")
        assert UNKNOWN not in message
    assert [change.reason for change in outcome.changes] == [reasons.BLAMED]


def test_spans_that_say_nothing_yet_change_nothing() -> None:
    before = status()
    outcome, analysis = afterwards.explain(SPEC, before, Outcome(State.of(before)), before.analysis, windows(Stages()))
    assert (outcome, analysis) == (Outcome(State.of(before)), before.analysis)


def test_nothing_is_asked_where_there_is_nothing_to_explain() -> None:
    assert afterwards.due(status(stage="Compute")) is None
    assert afterwards.due(status(retiring=[])) is None
    assert afterwards.due(TransformerDeploymentStatus()) is None
