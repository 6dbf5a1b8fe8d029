"""From the observer's windows to outcomes: each request once, and no figure that can't be true."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapchanger_operator.api.arms import ExperimentStatus
from tapchanger_operator.api.base import timestamp, unix
from tapchanger_operator.api.status import ArmStatus, RevisionStatus
from tapchanger_operator.decide.compare import LAG_SECONDS, STEP_SECONDS, Seen, compare, due, outcomes
from tapchanger_operator.decide.state import State
from tapchanger_serving.contract.windows import LatencyCount, RevisionWindow, Scores, Windows
from tests.support.samples import spec

NOW = 1_700_000_000.0
ARMS = [{"name": "b", "weight": 50, "model": {"uri": "pvc://models/b"}}]
SLO = {"objectives": [{"latency": "50ms", "target": 0.99}]}


def state() -> State:
    """Two arms that serve, before anything was counted."""
    stable = RevisionStatus(revision="a" * 10, build="eb-a", uri="pvc://models/a", since=timestamp(NOW))
    rows = (
        ArmStatus(name="control", revision="a" * 10, weight=50),
        ArmStatus(name="b", revision="b" * 10, weight=50),
    )
    return State(stable, arms=rows)


def windows(since: float, until: float, *revisions: RevisionWindow) -> Windows:
    return Windows(namespace="x", deployment="y", now=until, since=since, until=until, revisions=revisions)


def begun() -> tuple[State, float]:
    """The state after the first look, and the time at which counting begins."""
    seen = Seen(spec(variants=ARMS, slo=SLO), [], None, NOW)
    after, changes = compare(seen, state())
    assert changes == ()
    assert after.experiment is not None
    return after, unix(after.experiment.counted_until)


def test_counting_begins_after_every_router_was_told_and_on_a_step() -> None:
    _, begin = begun()
    assert begin >= NOW + 10
    assert begin % STEP_SECONDS == 0


@given(st.lists(st.floats(0.5, 300), min_size=1, max_size=20))
def test_what_is_due_follows_without_gap_or_overlap_and_is_complete(pauses: list[float]) -> None:
    experiment = ExperimentStatus(metric="latency", since="", counted_until=timestamp(NOW), key="", compared="")
    now, counted = NOW, NOW
    for pause in pauses:
        now += pause
        span = due(experiment, now)
        if span is None:
            assert now - counted < STEP_SECONDS + LAG_SECONDS
            continue
        assert span[0] == counted
        assert span[1] <= now - LAG_SECONDS
        assert span[1] % STEP_SECONDS == 0
        counted = span[1]
        experiment = experiment.model_copy(update={"counted_until": timestamp(counted)})


def test_each_metric_has_its_outcomes() -> None:
    window = RevisionWindow(
        revision="r",
        requests=100,
        unavailable=3,
        over=(LatencyCount(threshold=0.05, bad=10), LatencyCount(threshold=0.1, bad=4)),
        feedback=Scores(count=2, total=1.5, squares=1.25),
        labels_came=Scores(count=40, total=36, squares=36),
    )
    assert outcomes(window, "latency", 0.05) == (100, 90.0, 90.0)
    assert outcomes(window, "latency", 0.2) == (0, 0.0, 0.0), "what was not counted says nothing"
    assert outcomes(window, "latency", None) == (0, 0.0, 0.0)
    assert outcomes(window, "availability", None) == (100, 97.0, 97.0)
    assert outcomes(window, "feedback", None) == (2, 1.5, 1.25)
    assert outcomes(window, "accuracy", None) == (40, 36.0, 36.0)
    sure = window.model_copy(update={"confidence": Scores(count=3, total=2.4, squares=2.0)})
    assert outcomes(sure, "confidence", None) == (3, 2.4, 2.0)


def looked(at: State, begin: float, *revisions: RevisionWindow) -> State:
    told = windows(begin, begin + 10, *revisions)
    after, _ = compare(Seen(spec(variants=ARMS, slo=SLO), [], told, begin + 15), at)
    return after


def test_a_window_counts_once_and_a_window_of_another_time_not_at_all() -> None:
    at, begin = begun()
    window = RevisionWindow(revision="b" * 10, requests=7, over=(LatencyCount(threshold=0.05, bad=1),))
    after = looked(at, begin, window)
    assert [arm.requests for arm in after.arms] == [0, 7]
    again, _ = compare(Seen(spec(variants=ARMS, slo=SLO), [], windows(begin, begin + 10, window), begin + 16), after)
    assert [arm.requests for arm in again.arms] == [0, 7]
    assert again.experiment is not None
    assert unix(again.experiment.counted_until) == begin + 10


def test_figures_that_cannot_be_true_are_left_out_and_told() -> None:
    at, begin = begun()
    after = looked(at, begin, RevisionWindow(revision="b" * 10, requests=2, unavailable=5))
    assert [arm.requests for arm in after.arms] == [0, 0]
    assert after.experiment is not None
    assert "figures were left out: 2 outcomes between 0 and 1 can't have the sum -3" in after.experiment.message
    assert unix(after.experiment.counted_until) == begin + 10


@pytest.mark.parametrize("part", ["weight", "revision", "objective"])
def test_figures_start_anew_when_what_is_compared_changes(part: str) -> None:
    at, begin = begun()
    after = looked(at, begin, RevisionWindow(revision="b" * 10, requests=7))
    assert after.arms[1].requests == 7
    change = {"weight": {"weight": 40}, "revision": {"revision": "c" * 10}}.get(part, {})
    changed = State(
        after.stable, arms=(after.arms[0], after.arms[1].model_copy(update=change)), experiment=after.experiment
    )
    slo = {"objectives": [{"latency": "80ms" if part == "objective" else "50ms", "target": 0.99}]}
    fresh, _ = compare(Seen(spec(variants=ARMS, slo=slo), [], None, begin + 20), changed)
    assert [arm.requests for arm in fresh.arms] == [0, 0]
    assert fresh.experiment is not None
    assert unix(fresh.experiment.since) > begin + 20
