"""The benchmark's fast analysis decides as the operator's does, and its peers as their documentation says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapchanger_operator.decide import blocks, sequential
from tests.bench.decisions import cases, delivery, oracle, peers, replay, summary
from tests.bench.decisions.outcome import PROMOTED, ROLLED_BACK
from tests.bench.decisions.run import Figures, Result
from tests.bench.decisions.twin import comparison_factors, shared


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 10_000),
    pattern=st.sampled_from(cases.PATTERNS),
    rate=st.floats(0.05, 60.0),
    latency=st.floats(0.5, 6.0),
    errors=st.sampled_from([0.0, 0.0, 0.003, 0.03, 0.4]),
    weight=st.sampled_from(delivery.WEIGHTS),
)
def test_the_twin_decides_alike_at_every_look(
    seed: int, pattern: str, rate: float, latency: float, errors: float, weight: int
) -> None:
    """Whole rollouts, with their steps, watches and comparisons: the weight is compared at each look."""
    rng = np.random.default_rng(seed)
    stream = cases.stream(pattern, rate, 2, rng, seconds=1000)
    case = cases.case(cases.Regression("some", latency, errors), pattern, rate)
    record = delivery.Record((0, 1))
    found = delivery.Delivery([case], stream, rng, record).run()[0]
    for rollout, looks in record.looks.items():
        assert replay.differs(looks, bool(found.end[rollout] == ROLLED_BACK)) is None


def test_a_replay_notices_a_look_that_was_decided_otherwise() -> None:
    rng = np.random.default_rng(1)
    stream = cases.stream("steady", 20.0, 1, rng, seconds=300)
    record = delivery.Record((0,))
    slow = cases.case(cases.Regression("slow", latency=5.0), "steady", 20.0)
    delivery.Delivery([slow], stream, rng, record).run()
    looks = record.looks[0]
    assert replay.differs(looks, True) is None
    assert replay.differs(looks, False)
    assert replay.differs([replace(looks[0], weight=25), *looks[1:]], True)


@settings(deadline=None)
@given(
    mine=st.integers(1, 2000),
    theirs=st.integers(1, 4000),
    part=st.floats(0.0, 1.0),
    other=st.floats(0.0, 1.0),
    seconds=st.floats(0.0, 1000.0),
    routed=st.floats(0.0, 1.0),
)
def test_bets_of_the_twin_are_those_of_the_operator(
    mine: int, theirs: int, part: float, other: float, seconds: float, routed: float
) -> None:
    bad = max(1, round(part * mine)), round(other * theirs)
    found = comparison_factors(*(np.array([value]) for value in (mine, bad[0], theirs, bad[1], seconds, routed)))
    expected = sequential.comparison_bets((mine, bad[0]), (theirs, bad[1]), seconds, routed)
    assert found[:, 0] == pytest.approx(expected, abs=1e-6)


COUNTS = st.tuples(st.integers(0, 2000), st.floats(0.0, 1.0)).map(lambda one: (one[0], round(one[0] * one[1])))


@given(canary=COUNTS, stable=COUNTS, budget=st.sampled_from([0.001, 0.01, 0.1]))
def test_trouble_of_the_twin_is_that_of_the_operator(
    canary: tuple[int, int], stable: tuple[int, int], budget: float
) -> None:
    mine, theirs = (tuple(np.array([value]) for value in side) for side in (canary, stable))
    assert bool(shared(budget, mine, theirs)[0]) == blocks.shared(budget, canary, stable)


def outcomes(decider: str, regression: cases.Regression, rate: float, rollouts: int = 20) -> tuple[float, float, float]:
    """(Share promoted, share rolled back, median seconds) of a peer under steady traffic."""
    rng = np.random.default_rng(3)
    stream = cases.stream("steady", rate, rollouts, rng)
    decide = {"flagger": peers.flagger, "argo": peers.argo}[decider]
    found = decide(cases.case(regression, "steady", rate), stream, rng)
    return found.share(PROMOTED), found.share(ROLLED_BACK), found.median_seconds


def test_flagger_takes_interval_times_weights_to_promote_and_interval_times_threshold_to_roll_back() -> None:
    assert outcomes("flagger", cases.HEALTHY, 2000.0) == (1.0, 0.0, 600.0)
    assert outcomes("flagger", cases.Regression("broken", latency=5.0), 200.0) == (0.0, 1.0, 300.0)


def test_argo_takes_its_count_at_each_step_to_promote_and_one_failure_to_abort() -> None:
    assert outcomes("argo", cases.HEALTHY, 2000.0) == (1.0, 0.0, 900.0)
    assert outcomes("argo", cases.Regression("broken", latency=5.0), 200.0) == (0.0, 1.0, 60.0)


def test_without_requests_both_peers_give_up_after_five_checks() -> None:
    for decider in ("flagger", "argo"):
        assert outcomes(decider, cases.HEALTHY, 1e-6) == (0.0, 1.0, 300.0)


def test_the_oracle_needs_what_wald_says_and_a_little_for_the_overshoot() -> None:
    rng = np.random.default_rng(4)
    found = oracle.expected_requests(0.02, 0.01, 0.01, 0.01, 4000, rng)
    wald = np.log(1.0 / 0.01) / oracle.information(0.02, 0.01)
    assert wald < found < 1.15 * wald


def test_harm_is_what_was_served_beyond_stable_while_it_was_served() -> None:
    rng = np.random.default_rng(5)
    stream = cases.stream("steady", 100.0, 50, rng, seconds=1200)
    case = cases.case(cases.Regression("broken", errors=0.5), "steady", 100.0)
    found = peers.flagger(case, stream, rng)
    assert found.share(ROLLED_BACK) == 1.0
    assert found.mean_harm == pytest.approx(300 * 100 * 0.05 * 0.5, rel=0.02)


def figures(harm: float, rolled_back: float = 0.0, promoted: float = 0.0) -> Figures:
    return Figures(promoted, rolled_back, 1.0 - promoted - rolled_back, 0.0, 60.0, harm)


def result(regression: str, breach: float, ours: Figures, requests: float = math.nan, rate: float = 0.2) -> Result:
    found = {"tapchanger": ours, "Flagger": figures(100.0), "Argo Rollouts": figures(40.0, 0.5)}
    return Result(regression, "steady", rate, 1000, breach, found, requests, 10.0)


def test_the_last_line_has_the_worst_of_each_goal() -> None:
    results = [
        result("healthy", 0.5, figures(0.0, rolled_back=0.001)),
        result("healthy", 0.5, figures(0.0, rolled_back=0.004), rate=20.0),
        result("a little worse", 1.2, figures(50.0, promoted=0.002)),
        result("worse", 4.0, figures(4.0), requests=13.0),
        result("much worse", 40.0, figures(4.0), requests=14.0),
    ]
    assert summary.headline(results) == {
        "false_rollback_rate": 0.004,
        "bad_requests_vs_best_peer": 0.1,
        "detection_vs_sprt": 1.4,
        "lucky_promotions": 2,
        "rollouts": 5000,
    }
