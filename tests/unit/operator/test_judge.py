"""From the observer's windows to a judgement and its record."""

from __future__ import annotations

from typing import Any

import pytest

from tapchanger_operator.api.base import timestamp, unix
from tapchanger_operator.api.spec import Objective as ObjectiveSpec
from tapchanger_operator.api.status import CanaryStatus, RevisionStatus, TransformerDeploymentStatus
from tapchanger_operator.decide import judge
from tapchanger_operator.decide import objectives as told
from tapchanger_operator.decide.analysis import Counts, Objective
from tapchanger_operator.decide.slo import slo_reason
from tapchanger_serving.contract.windows import Exemplar, LatencyCount, RevisionWindow, SlowStages, Stages, Windows
from tests.support.samples import spec

T0 = 1_700_000_000.0
STABLE, CANARY = "aaaaaaaaaa", "bbbbbbbbbb"
SPEC = spec(
    slo={"objectives": [{"latency": "50ms", "target": 0.99}, {"availability": 0.999}]},
    rollout={"analysis": {"timeout": "3m"}},
)
LATENCY = Objective("99% within 50ms", "latency", 0.99, 0.05)
AVAILABILITY = Objective("99.9% available", "availability", 0.999)


def status(since: float | None = T0, **analysis: Any) -> TransformerDeploymentStatus:
    canary = CanaryStatus(
        revision=CANARY,
        build="eb-b",
        uri="pvc://models/b",
        weight=5,
        step=0,
        created_at=timestamp(T0),
        since=timestamp(since) if since else None,
        step_started_at=timestamp(since) if since else None,
    )
    stable = RevisionStatus(revision=STABLE, build="eb-a", uri="pvc://models/a", weight=95)
    return TransformerDeploymentStatus.model_validate({"stable": stable, "canary": canary, **analysis})


def window(revision: str, requests: int, slow: int = 0, failing: int = 0, threshold: float = 0.05) -> RevisionWindow:
    return RevisionWindow(
        revision=revision,
        requests=requests,
        unavailable=failing,
        over=(LatencyCount(threshold=threshold, bad=slow),),
        exemplars=tuple(Exemplar(trace_id=f"{n:032x}", seconds=1.0) for n in range(5)) if slow else (),
        first_bad=T0 + 3 if slow else None,
    )


def windows(*revisions: RevisionWindow, now: float = T0 + 60) -> Windows:
    return Windows(namespace="team-a", deployment="moderation", now=now, since=T0, until=now, revisions=revisions)


def judged(
    seen: Windows | None, of: TransformerDeploymentStatus | None = None, silence: str | None = None
) -> judge.Judged:
    found = judge.judge(SPEC, of or status(), seen, seen, silence, T0 + 60)
    assert found is not None
    return found


GOOD = windows(window(STABLE, 9500, slow=10), window(CANARY, 500))
BAD = windows(window(STABLE, 9500, slow=10), window(CANARY, 500, slow=400))


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        ({"latency": "50ms", "target": 0.99}, "99% within 50ms"),
        ({"latency": "1s", "target": 0.995}, "99.5% within 1s"),
        ({"availability": 0.999}, "99.9% available"),
    ],
)
def test_objectives_have_names_that_people_read(objective: dict[str, Any], words: str) -> None:
    assert told.objective_name(ObjectiveSpec.model_validate(objective)) == words


def test_objectives_are_what_the_spec_says() -> None:
    assert told.objectives(SPEC) == (LATENCY, AVAILABILITY)


def test_counts_are_of_the_objectives_own_threshold() -> None:
    seen = RevisionWindow(
        revision=CANARY,
        requests=100,
        unavailable=2,
        over=(LatencyCount(threshold=0.05, bad=7), LatencyCount(threshold=0.25, bad=1)),
    )
    assert told.counts(LATENCY, seen) == Counts(100, 7)
    assert told.counts(AVAILABILITY, seen) == Counts(100, 2)


def test_thresholds_are_found_though_written_in_other_units() -> None:
    other = spec(slo={"objectives": [{"latency": "0.05s", "target": 0.99}]})
    assert told.counts(told.objectives(other)[0], window(CANARY, 10, slow=3)) == Counts(10, 3)


def test_a_revision_that_was_not_seen_has_no_requests() -> None:
    assert told.window_of(windows(), CANARY) == RevisionWindow(revision=CANARY)
    assert told.counts(LATENCY, RevisionWindow(revision=CANARY)) == Counts(0, 0)


def test_without_a_canary_or_before_its_traffic_there_is_nothing_to_judge() -> None:
    assert judge.judge(SPEC, status(since=None), None, None, None, T0) is None
    assert judge.judge(SPEC, TransformerDeploymentStatus(), GOOD, GOOD, None, T0) is None


def test_a_healthy_canary_passes_with_its_figures_on_record() -> None:
    found = judged(GOOD)
    assert found.judgement.result == "Pass"
    assert found.record.revision == CANARY
    assert found.record.requests == 500
    assert [entry.objective for entry in found.record.evidence] == ["99% within 50ms", "99.9% available"]
    assert found.record.evidence[0].stable_requests == 9500
    assert found.record.evidence[0].stable_bad == 10
    assert found.record.exemplars == []
    assert unix(found.record.at) == T0 + 60


def test_a_slow_canary_fails_with_traces_and_the_first_bad_request() -> None:
    found = judged(BAD)
    assert found.judgement.result == "Fail"
    assert found.judgement.first_bad == T0 + 3
    assert len(found.record.exemplars) == 3
    assert "400 of 500 requests took longer than 50 ms" in found.judgement.message
    assert found.record.evidence[0].e_value <= 1e12, "a figure that JSON holds"


def traced(revision: str, requests: int, compute: float, slow: int = 0) -> RevisionWindow:
    told = {"queue": 0.002, "pre": 0.001, "post": 0.001, "network": 0.001, "spans": 40, "joined": 40, "batch": 1.0}
    parts = Stages(compute=compute, seconds=0.005 + compute, **told)
    seen = window(revision, requests, slow=slow)
    return seen.model_copy(
        update={"stages": parts, "slow": (SlowStages(threshold=0.05, stages=parts),) if slow else ()}
    )


SLOW_ENGINE = windows(traced(STABLE, 9500, 0.008, slow=10), traced(CANARY, 500, 0.412, slow=400))


def test_a_failure_names_its_culprit_in_status_and_in_the_reason_with_traces() -> None:
    found = judged(SLOW_ENGINE)
    culprit = found.record.blame
    assert culprit
    assert (culprit.stage, culprit.objective, culprit.share) == ("Compute", "99% within 50ms", 1.0)
    assert culprit.exemplars == found.record.exemplars
    assert found.judgement.message == found.record.message
    assert found.judgement.message.endswith(
        "; compute took 412 ms in slow requests, stable's 8 ms: 100 % of the difference; "
        f"for example trace {0:032x} and {1:032x}"
    )


def test_without_spans_of_servers_a_failure_says_that_it_is_not_known_where() -> None:
    found = judged(BAD)
    assert found.record.blame
    assert found.record.blame.stage == "Unknown"
    assert "where the time went is not known: no server has told of a slow request" in found.judgement.message


def test_traces_show_the_kind_of_trouble_that_is_blamed() -> None:
    failed = [Exemplar(trace_id=f"{n:032x}", seconds=0.01, code="grpc/13") for n in range(2)]
    slow = [Exemplar(trace_id=f"{n:032x}", seconds=s) for n, s in ((7, 0.9), (8, 0.01))]
    seen = SLOW_ENGINE.revisions[1].model_copy(update={"exemplars": (*failed, *slow)})
    found = judged(windows(SLOW_ENGINE.revisions[0], seen))
    assert found.record.blame
    assert found.record.blame.exemplars == [f"{7:032x}"]


def test_a_pass_blames_nothing() -> None:
    assert judged(GOOD).record.blame is None


def test_a_missed_objective_of_the_stable_revision_says_what_slow_requests_do() -> None:
    _, sentence, _ = slo_reason(SPEC, traced(STABLE, 1000, 0.412, slow=50))
    assert sentence == ("missed over the last 1h: 99% within 50ms (compute took 412 ms of the 417 ms of slow requests)")


def test_silence_is_inconclusive_and_says_why() -> None:
    found = judged(None, silence="the observer did not answer: ConnectError")
    assert found.judgement.result == "Inconclusive"
    assert found.judgement.reason == "ObserverSilent"
    assert "ConnectError" in found.judgement.message


def test_old_data_are_inconclusive() -> None:
    old = GOOD.model_copy(update={"now": T0 + 1})
    found = judge.judge(SPEC, status(), old, old, None, T0 + 120)
    assert found is not None
    assert found.judgement.reason == "ObserverSilent"


def test_an_observer_that_counted_something_else_is_inconclusive() -> None:
    other = windows(window(STABLE, 9500, threshold=0.2), window(CANARY, 500, threshold=0.2))
    found = judged(other)
    assert found.judgement.result == "Inconclusive"
    assert "did not count against 99% within 50ms" in found.judgement.message


def test_the_memory_of_a_test_goes_through_the_status() -> None:
    half = windows(window(STABLE, 4750, slow=5), window(CANARY, 250, slow=2))
    first = judged(half)
    again = judged(GOOD, status(analysis=first.record))
    assert first.record.state != again.record.state
    direct = judged(half, status(analysis=first.record))
    assert direct.record.state == first.record.state, "looking again at the same requests learns nothing"


def test_the_memory_of_another_canary_is_not_used() -> None:
    other = judged(BAD).record.model_copy(update={"revision": "cccccccccc"})
    assert judged(GOOD, status(analysis=other)).record == judged(GOOD).record


def test_a_memory_that_cannot_be_read_is_dropped_and_the_analysis_starts_anew() -> None:
    broken = judged(GOOD).record.model_copy(update={"state": {"objectives": [{"key": "x"}]}})
    of = status(analysis=broken)
    with pytest.raises(ValueError, match="analysis starts anew"):
        judged(GOOD, of)
    dropped = judge.unreadable(of, T0 + 61)
    assert dropped is not None
    assert judged(GOOD, status(analysis=dropped)).record.state == judged(GOOD).record.state


def test_an_objective_that_is_stated_twice_is_an_error_in_words() -> None:
    twice = spec(slo={"objectives": [{"availability": 0.999}, {"availability": 0.999}]})
    found = judge.judge(twice, status(), GOOD, GOOD, None, T0 + 60)
    assert found is not None
    assert found.judgement.result == "Error"
    assert "twice" in found.judgement.message


@pytest.mark.parametrize(
    ("seen", "truth", "words"),
    [
        (window(STABLE, 1000, slow=5), "True", "all objectives kept over the last 1h (1000 requests)"),
        (window(STABLE, 1000, slow=50), "False", "missed over the last 1h: 99% within 50ms"),
        (window(STABLE, 1000, slow=5, failing=5), "False", "missed over the last 1h: 99.9% available"),
        (RevisionWindow(revision=STABLE), "Unknown", "no requests in the last 1h"),
    ],
    ids=["kept", "slow", "failing", "idle"],
)
def test_the_stable_revisions_objectives_over_the_window(seen: RevisionWindow, truth: str, words: str) -> None:
    found, sentence, _ = slo_reason(SPEC, seen)
    assert (found, sentence) == (truth, words)


def test_each_objective_has_a_line_of_its_own() -> None:
    _, _, lines = slo_reason(SPEC, window(STABLE, 1000, slow=5))
    assert lines == ["99% within 50ms: 99.500% of 1000 requests", "99.9% available: 100.000% of 1000 requests"]
