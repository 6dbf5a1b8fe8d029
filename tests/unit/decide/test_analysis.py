"""Verdicts on canaries, told as stories of good and bad requests."""

from __future__ import annotations

import json
import math
import random
import time
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapchanger_operator.decide import evidence, sequential
from tapchanger_operator.decide.analysis import (
    AnalysisState,
    Counts,
    Look,
    Objective,
    ObjectiveCounts,
    Settings,
    Verdict,
    analyse,
    supports,
)

LATENCY = Objective("latency", "latency", 0.99, 0.05)
AVAILABILITY = Objective("availability", "availability", 0.999)
OBJECTIVES = (LATENCY, AVAILABILITY)


@dataclass
class Rollout:
    """A canary beside a stable revision, seen as the operator sees it: in counts, now and then."""

    objectives: tuple[Objective, ...] = OBJECTIVES
    settings: Settings = field(default_factory=Settings)
    weight: int = 5
    elapsed: float = 300.0
    state: AnalysisState = field(default_factory=AnalysisState)
    canary: dict[str, list[int]] = field(default_factory=dict)
    stable: dict[str, list[int]] = field(default_factory=dict)
    start: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for objective in self.objectives:
            self.canary[objective.name], self.stable[objective.name] = [0, 0], [0, 0]
            self.start[objective.name] = (0, 0, 0, 0)

    def serve(self, canary: int = 0, stable: int = 0, **bad: tuple[int, int]) -> Rollout:
        """More requests; `bad` says how many were bad for an objective, (canary's, stable's)."""
        for name in self.canary:
            mine, theirs = bad.get(name, (0, 0))
            for counts, requests, spoilt in (
                (self.canary[name], canary, mine),
                (self.stable[name], stable, theirs),
            ):
                counts[0] += requests
                counts[1] += spoilt
        return self

    def step(self, weight: int) -> Rollout:
        """Goes on to the next step."""
        self.weight = weight
        for name, canary in self.canary.items():
            stable = self.stable[name]
            self.start[name] = (canary[0], canary[1], stable[0], stable[1])
        return self

    def counts(self) -> dict[str, ObjectiveCounts]:
        found = {}
        for name, start in self.start.items():
            canary, stable = self.canary[name], self.stable[name]
            found[name] = ObjectiveCounts(
                Counts(*canary),
                Counts(*stable),
                Counts(canary[0] - start[0], canary[1] - start[1]),
                Counts(stable[0] - start[2], stable[1] - start[3]),
            )
        return found

    def look(self, data_age: float | None = 1.0) -> Verdict:
        look = Look(self.counts(), self.weight, self.elapsed, data_age)
        verdict, self.state = analyse(self.objectives, look, self.settings, self.state)
        return verdict


def test_a_canary_without_a_bad_request_passes_at_the_least_number() -> None:
    rollout = Rollout()
    assert rollout.serve(99, 1900).look().reason == evidence.TOO_FEW_REQUESTS
    verdict = rollout.serve(1, 19).look()
    assert (verdict.result, verdict.reason) == ("Pass", evidence.OBJECTIVES_MET)
    assert verdict.message == (
        "in this step 0 of 100 requests took longer than 50 ms (0 %), 1 % allowed; "
        "0 of 100 requests failed (0 %), 0.1 % allowed"
    )


def test_one_bad_request_in_a_hundred_is_within_one_percent() -> None:
    assert Rollout().serve(100, 1900, latency=(1, 2)).look().result == "Pass"


def test_a_canary_five_times_slower_fails_at_its_second_request() -> None:
    rollout = Rollout()
    results = [rollout.serve(1, 19, latency=(1, 0)).look().result for _ in range(2)]
    assert results == ["Inconclusive", "Fail"]


def test_a_step_is_not_passed_by_thin_traffic_before_its_patience_is_over() -> None:
    rollout = Rollout(elapsed=299.0).serve(200, 3800)
    verdict = rollout.look()
    assert (verdict.result, verdict.reason) == ("Inconclusive", evidence.UNDECIDED)
    rollout.elapsed = 300.0
    assert rollout.look().result == "Pass"


def test_a_forgiven_bad_request_costs_the_patience_twice() -> None:
    rollout = Rollout(elapsed=599.0).serve(200, 3800, availability=(1, 0))
    assert rollout.look().reason == evidence.UNDECIDED
    rollout.elapsed = 600.0
    assert rollout.look().result == "Pass"


def test_traffic_enough_to_rule_out_twice_the_budget_passes_at_once() -> None:
    assert Rollout(elapsed=1.0).serve(2400, 45_600).look().result == "Pass"


def test_thin_traffic_never_gathers_its_requests_by_waiting() -> None:
    rollout = Rollout(elapsed=9_000.0).serve(999, 18_981)
    verdict = rollout.look()
    assert (verdict.result, verdict.reason) == ("Inconclusive", evidence.TIMED_OUT)
    assert "999 requests seen in 150 min of this step; minRequests asks for 100 in 15 min" in verdict.message
    assert rollout.serve(1, 19).look().result == "Pass"


def test_faults_that_show_in_two_objectives_are_counted_together() -> None:
    """Each by itself stays below the threshold, at which their sum arrives."""
    both = Rollout().serve(2, 20, latency=(2, 0), availability=(2, 0)).look()
    assert both.result == "Fail"
    assert all(entry.e_value < entry.threshold for entry in both.evidence)
    assert Rollout().serve(2, 20, availability=(2, 0)).look().result == "Inconclusive"


@pytest.mark.parametrize(("weight", "requests"), [(5, 1), (25, 5), (50, 10)])
def test_a_canary_five_times_slower_fails_within_a_few_looks_at_every_weight(weight: int, requests: int) -> None:
    rollout = Rollout(weight=weight)
    looks = 0
    while rollout.serve(requests, 20 - requests, latency=(requests, 0)).look().result != "Fail":
        looks += 1
        assert looks < 5


def test_a_load_that_strikes_either_revision_by_turns_blames_none() -> None:
    """For two or three seconds at a time one of both is slow, as where processes fight for a CPU."""
    failed = 0
    for seed in range(60):
        rng, rollout, struck = random.Random(seed), Rollout((LATENCY,), weight=50, elapsed=0.0), 0
        for _ in range(60):
            if rng.random() < 0.4:
                struck = rng.randrange(2)
            rates = (0.7, 0.3) if struck else (0.3, 0.7)
            bad = [sum(rng.random() < rate for _ in range(20)) for rate in rates]
            rollout.elapsed += 1.0
            if rollout.serve(20, 20, latency=(bad[0], bad[1])).look().result == "Fail":
                failed += 1
                break
    assert failed <= 2


def test_a_canary_that_is_worse_in_a_trouble_that_both_have_fails_by_blocks_of_time() -> None:
    rollout = Rollout((LATENCY,), weight=50, elapsed=0.0)
    while rollout.serve(20, 20, latency=(19, 7)).look().result != "Fail":
        rollout.elapsed += 1.0
        assert rollout.elapsed < 100
    assert rollout.elapsed > 20


def test_the_message_of_a_failure_gives_the_figures_in_words() -> None:
    verdict = Rollout().serve(40, 760, latency=(12, 6)).look()
    assert (verdict.result, verdict.reason, verdict.objective) == ("Fail", evidence.OBJECTIVE_BREACHED, "latency")
    found = verdict.evidence[0]
    assert found.threshold == pytest.approx(200.0)
    assert found.e_value == min(found.budget_e, found.stable_e or 0.0) >= found.threshold
    assert verdict.message.startswith(
        "12 of 40 requests took longer than 50 ms (30 %); the objective allows 1 %; stable has 0.789 %; e-value "
    )
    assert verdict.message.endswith(" against 200")


def test_single_requests_are_gathered_until_they_can_be_compared() -> None:
    rollout = Rollout((LATENCY,), weight=50, elapsed=0.0)
    while rollout.serve(1, 1, latency=(1, 0)).look().result != "Fail":
        rollout.elapsed += 1.0
        assert rollout.canary["latency"][0] < 10


def test_requests_of_two_weights_are_not_compared_as_one_batch() -> None:
    """Good ones at 5 % and bad ones on both sides alike at 50 %: together the canary would look ten times worse."""
    rollout = Rollout((LATENCY,))
    rollout.serve(10, 190).look()
    before = rollout.state.objectives[0].versus
    rollout.step(50).serve(10, 10, latency=(5, 5)).look()
    assert rollout.state.objectives[0].versus == before
    rollout.serve(10, 10, latency=(5, 5)).look()
    assert rollout.look().evidence[0].stable_e < 1.0


def test_good_requests_stay_in_the_batch_for_the_first_bad_one() -> None:
    def stable_e(looks: int) -> float:
        rollout = Rollout((LATENCY,))
        for _ in range(looks):
            rollout.serve(1, 19).look()
        return rollout.serve(2, 18, latency=(1, 0)).look().evidence[0].stable_e or 0.0

    assert stable_e(10) > 1.3 * stable_e(0)


def test_more_than_the_budget_is_no_pass_even_where_a_gross_breach_is_ruled_out() -> None:
    assert supports(LATENCY, Counts(400, 4), Settings(), 300.0)
    assert not supports(LATENCY, Counts(400, 6), Settings(), 300.0)


def test_errors_in_one_of_ten_requests_fail_soon() -> None:
    bad = []
    for seed in range(20):
        rng, rollout = random.Random(seed), Rollout()
        while rollout.serve(1, 19, availability=(int(rng.random() < 0.1), 0)).look().result != "Fail":
            assert rollout.canary["availability"][0] < 200
        bad.append(rollout.canary["availability"][1])
    assert sum(bad) / len(bad) <= 4.0


def test_a_spike_that_hits_both_alike_blames_neither_and_passes_none() -> None:
    rng, rollout = random.Random(4), Rollout(weight=25)
    for look in range(300):
        rate = 0.9 if 100 <= look < 140 else 0.002
        bad = [sum(rng.random() < rate for _ in range(count)) for count in (5, 15)]
        verdict = rollout.serve(5, 15, latency=(bad[0], bad[1])).look()
        assert verdict.result != "Fail"
        if 105 <= look < 140:
            assert (verdict.result, verdict.reason) == ("Inconclusive", evidence.NOT_SHOWN_WORSE)
            assert "not shown that the canary does worse than stable" in verdict.message


def test_a_breach_after_a_spike_that_is_over_is_judged_by_itself() -> None:
    rng, rollout = random.Random(5), Rollout(weight=50)
    for look in range(200):
        rate = 0.9 if look < 20 else 0.003
        bad = [sum(rng.random() < rate for _ in range(10)) for _ in range(2)]
        rollout.elapsed += 1.0
        verdict = rollout.serve(10, 10, latency=(bad[0], bad[1])).look()
    assert verdict.evidence[0].over_budget is False
    for _ in range(8):
        rollout.elapsed += 1.0
        verdict = rollout.serve(10, 10, latency=(10, 0)).look()
    assert verdict.result == "Fail"


def test_a_canary_that_is_worse_than_stable_but_within_budget_passes() -> None:
    rollout = Rollout(weight=50)
    verdict = rollout.serve(1000, 1000, latency=(7, 0)).look()
    assert verdict.result == "Pass"


def test_without_a_stable_revision_the_budget_alone_decides_and_the_message_says_so() -> None:
    verdict = Rollout(weight=100).serve(3, latency=(3, 0)).look()
    assert verdict.result == "Fail"
    assert "no stable revision serves beside it" in verdict.message
    assert verdict.evidence[0].stable_e is None


def test_a_silent_stable_revision_is_waited_for_until_the_canary_has_plenty() -> None:
    rollout = Rollout(weight=50)
    assert rollout.serve(99, latency=(99, 0)).look().reason == evidence.NOT_SHOWN_WORSE
    assert rollout.serve(1, latency=(1, 0)).look().result == "Fail"


def test_a_canary_that_breaks_in_a_later_step_fails_there() -> None:
    rollout = Rollout()
    for weight, requests in ((5, 2000), (25, 2000), (50, 2000)):
        rollout.step(weight)
        assert rollout.serve(requests, requests, latency=(5, 5), availability=(0, 0)).look().result == "Pass"
    looks = 0
    while rollout.serve(10, 10, availability=(5, 0)).look().result != "Fail":
        looks += 1
        assert looks < 5


def test_each_step_needs_its_own_requests() -> None:
    rollout = Rollout().serve(500, 9500)
    assert rollout.look().result == "Pass"
    rollout.step(25)
    assert rollout.look().reason == evidence.TOO_FEW_REQUESTS
    assert rollout.serve(100, 300).look().result == "Pass"


@pytest.mark.parametrize(("objective", "bad"), [(LATENCY, 2), (AVAILABILITY, 1)])
def test_a_rate_near_the_budget_stays_open_until_the_time_is_over(objective: Objective, bad: int) -> None:
    rollout = Rollout((objective,)).serve(100, 1900, **{objective.name: (bad, 2)})
    verdict = rollout.look()
    assert (verdict.result, verdict.reason) == ("Inconclusive", evidence.UNDECIDED)
    rollout.elapsed = 900.0
    late = rollout.look()
    assert (late.result, late.reason) == ("Inconclusive", evidence.TIMED_OUT)
    assert late.message == f"undecided after 15 min: {verdict.message}"


def test_a_pass_or_failure_found_at_the_last_moment_still_counts() -> None:
    assert Rollout(elapsed=900.0).serve(100, 1900).look().result == "Pass"
    assert Rollout(elapsed=10_000.0).serve(5, 95, latency=(5, 0)).look().result == "Fail"


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_healthy_canary_at_half_its_budget_passes_soon(objective: Objective) -> None:
    requests = []
    for seed in range(200):
        rng, bad = random.Random(seed), 0
        for count in range(1, 5001):
            bad += rng.random() < objective.budget / 2.0
            if count >= 100 and supports(objective, Counts(count, bad), Settings(), 600.0):
                break
        requests.append(count)
    requests.sort()
    assert requests[150] == 100
    assert requests[-1] < 2000


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_breach_worth_catching_seldom_passes_even_when_looked_at_after_every_request(objective: Objective) -> None:
    passed = 0
    for seed in range(400):
        rng, bad = random.Random(seed), 0
        for count in range(1, 1001):
            bad += rng.random() < 0.05
            if count >= 100 and supports(objective, Counts(count, bad), Settings(), 600.0):
                passed += 1
                break
    assert passed <= 40


@pytest.mark.parametrize("canary_rate", [0.01, 0.3])
def test_a_canary_that_is_no_worse_than_allowed_is_almost_never_failed(canary_rate: float) -> None:
    """At its budget beside a perfect stable revision, and far above it beside an equally bad one."""
    stable_rate = 0.0 if canary_rate <= 0.01 else canary_rate
    failed = 0
    for seed in range(60):
        rng, rollout = random.Random(seed), Rollout((LATENCY,), Settings(false_alarm=0.05), weight=25)
        for _ in range(150):
            size = rng.randint(0, 6), rng.randint(0, 18)
            rates = canary_rate, stable_rate
            bad = [sum(rng.random() < rate for _ in range(count)) for rate, count in zip(rates, size, strict=True)]
            if rollout.serve(*size, latency=(bad[0], bad[1])).look().result == "Fail":
                failed += 1
                break
    assert failed <= 8


def test_requests_that_come_singly_through_spikes_blame_no_canary_that_is_no_worse() -> None:
    """Above its budget beside an equal stable revision, with batches that stay open over calm and spike."""
    failed = 0
    for seed in range(80):
        rng, rollout, spike = random.Random(seed), Rollout((LATENCY,), Settings(false_alarm=0.1), weight=25), False
        for _ in range(300):
            spike = spike != (rng.random() < 0.05)
            mine = rng.random() < 0.25
            bad = int(rng.random() < (0.6 if spike else 0.01))
            counts = (1, 0) if mine else (0, 1)
            if rollout.serve(*counts, latency=(bad * counts[0], bad * counts[1])).look().result == "Fail":
                failed += 1
                break
    assert failed <= 15


def test_missing_stale_and_absent_data_is_never_a_pass_and_changes_nothing() -> None:
    rollout = Rollout().serve(100, 1900)
    for age, words in ((None, "gives no data"), (31.0, "31 s old, more than 30 s")):
        verdict = rollout.look(age)
        assert (verdict.result, verdict.reason) == ("Inconclusive", evidence.OBSERVER_SILENT)
        assert words in verdict.message
    assert rollout.look().result == "Pass"
    assert Rollout().look().reason == evidence.NO_REQUESTS
    verdict, _ = analyse(OBJECTIVES, Look({}, 5, 0.0), Settings(), AnalysisState())
    assert verdict.reason == evidence.NO_REQUESTS


def test_a_silent_observer_is_not_taken_for_one_that_lost_its_data() -> None:
    rollout = Rollout().serve(40, 760, latency=(2, 20))
    before, state = rollout.look(), rollout.state
    silent = Look({}, rollout.weight, 0.0, data_age=None)
    verdict, rollout.state = analyse(rollout.objectives, silent, rollout.settings, rollout.state)
    assert rollout.state == state
    for last, entry in zip(before.evidence, verdict.evidence, strict=True):
        assert (entry.canary, entry.stable, entry.interval) == (last.canary, last.stable, last.interval)
        assert (entry.budget_e, entry.stable_e) == pytest.approx((last.budget_e, last.stable_e), rel=1e-4)


def test_a_failure_stays_one_when_the_observer_falls_silent() -> None:
    rollout = Rollout().serve(5, 95, latency=(5, 0))
    assert rollout.look().result == "Fail"
    assert rollout.look(None).result == "Fail"
    assert rollout.look().result == "Fail"


@pytest.mark.parametrize(
    ("objectives", "counts", "words"),
    [
        ((), {}, "slo.objectives is empty"),
        ((LATENCY, LATENCY), {}, "names an objective twice"),
        ((replace(LATENCY, target=1.0),), {}, "write a share between 0 and 1"),
        ((LATENCY,), {"latency": ObjectiveCounts(Counts(3, 4))}, "4 bad of 3"),
        ((LATENCY,), {"latency": ObjectiveCounts(stable=Counts(-1, -1))}, "-1 bad of -1"),
    ],
)
def test_impossible_input_is_an_error_that_says_what_is_wrong(
    objectives: tuple[Objective, ...], counts: dict[str, ObjectiveCounts], words: str
) -> None:
    before = Rollout().serve(10, 190)
    before.look()
    verdict, state = analyse(objectives, Look(counts, 5, 0.0), Settings(), before.state)
    assert (verdict.result, verdict.reason) == ("Error", evidence.INVALID_COUNTS)
    assert words in verdict.message
    assert state is before.state


def test_an_observer_that_lost_its_data_neither_fails_a_canary_nor_erases_what_was_shown() -> None:
    rollout = Rollout().serve(80, 1500, latency=(1, 10))
    rollout.look()
    for name in rollout.canary:
        rollout.canary[name], rollout.stable[name] = [0, 0], [0, 0]
    before = rollout.state
    rollout.look()
    assert [entry.budget for entry in rollout.state.objectives] == [entry.budget for entry in before.objectives]
    looks = 0
    while rollout.serve(1, 19, latency=(1, 0)).look().result != "Fail":
        looks += 1
        assert looks < 6


def test_evidence_starts_anew_when_the_objective_is_another() -> None:
    rollout = Rollout((LATENCY,)).serve(2, 38, latency=(2, 0))
    rollout.look()
    rollout.objectives = (replace(LATENCY, threshold_seconds=0.2),)
    rollout.canary["latency"][1] = 0
    assert rollout.look().evidence[0].budget_e < 1.0


batches = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 60), st.floats(0.0, 1.0), st.floats(0.0, 1.0)), min_size=1, max_size=12
)


def served(rollout: Rollout, batch: tuple[int, int, float, float]) -> Rollout:
    canary, stable, mine, theirs = batch
    return rollout.serve(canary, stable, latency=(round(mine * canary), round(theirs * stable)))


@settings(deadline=None)
@given(batches)
def test_an_operator_killed_after_any_look_goes_on_as_if_it_had_not_been(
    history: list[tuple[int, int, float, float]],
) -> None:
    steady, killed = Rollout(), Rollout()
    for batch in history:
        first = served(steady, batch).look()
        killed.state = AnalysisState.from_dict(json.loads(json.dumps(killed.state.to_dict())))
        assert served(killed, batch).look() == first
    assert killed.state == steady.state


@settings(deadline=None)
@given(batches)
def test_looking_again_without_new_requests_changes_nothing(history: list[tuple[int, int, float, float]]) -> None:
    rollout = Rollout()
    for batch in history:
        served(rollout, batch).look()
        settled = rollout.look()
        state = rollout.state
        assert rollout.look() == settled
        assert rollout.state == state


@settings(deadline=None)
@given(batches, st.integers(0, 1000))
def test_what_a_look_finds_does_not_depend_on_the_order_of_the_requests_in_between(
    history: list[tuple[int, int, float, float]], seed: int
) -> None:
    one, other = Rollout(), Rollout()
    for batch in history:
        served(one, batch)
    random.Random(seed).shuffle(history)
    for batch in history:
        served(other, batch)
    assert one.look() == other.look()


@settings(deadline=None)
@given(batches)
def test_every_verdict_is_finite_json_with_a_sentence(history: list[tuple[int, int, float, float]]) -> None:
    rollout = Rollout()
    for batch in history:
        verdict = served(rollout, batch).look()
        assert verdict.message
        for entry in verdict.evidence:
            assert math.isfinite(entry.e_value)
            assert entry.interval[0] <= entry.canary.rate <= entry.interval[1]
        json.dumps(rollout.state.to_dict(), allow_nan=False)


@settings(deadline=None)
@given(batches)
def test_a_canary_with_one_more_bad_request_in_a_first_look_is_never_judged_milder(
    history: list[tuple[int, int, float, float]],
) -> None:
    order = {"Pass": 0, "Inconclusive": 1, "Fail": 2}
    fewer, more = Rollout((LATENCY,)), Rollout((LATENCY,))
    for batch in history:
        served(fewer, batch)
        served(more, batch)
    requests, bad = more.canary["latency"]
    # Beyond, a bound takes the place of the exact expectation, and the e-value is smaller by what the bound gives away.
    if bad < min(requests, 60) and bad + more.stable["latency"][1] < sequential.EXACT_TERMS:
        more.canary["latency"][1] += 1
    assert order[fewer.look().result] <= order[more.look().result]


@pytest.mark.parametrize("value", [{"objectives": [{}]}, {"objectives": 3}, {"other": []}, {"objectives": [None]}])
def test_a_state_that_can_not_be_read_says_what_to_do(value: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"status\.analysis\.state can't be read .* remove it"):
        AnalysisState.from_dict(value)


def test_nothing_remembered_is_a_fresh_start() -> None:
    assert AnalysisState.from_dict(None) == AnalysisState.from_dict({}) == AnalysisState()


def test_a_look_is_fast_and_its_memory_small_at_any_traffic() -> None:
    tight = Objective("tight", "availability", 1.0 - 1e-5)
    rollout = Rollout((LATENCY, AVAILABILITY, tight), weight=50)
    best = math.inf
    for _ in range(10):
        rollout.serve(10_000_000, 10_000_000, latency=(50_000, 50_000), tight=(60, 50))
        start = time.perf_counter()
        verdict = rollout.look()
        best = min(best, time.perf_counter() - start)
    assert verdict.result != "Error"
    assert best < 1e-3 * len(rollout.objectives)
    assert len(json.dumps(rollout.state.to_dict())) < 3000
