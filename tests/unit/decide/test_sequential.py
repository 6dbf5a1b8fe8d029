"""The bets behind a verdict: fair under their nulls, monotone, and well behaved at the edges."""

from __future__ import annotations

import math
import random
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from tapchanger_operator.decide import sequential as seq

BUDGETS = st.sampled_from([1e-5, 1e-3, 0.01, 0.05, 0.3, 0.9])


def e_value(budget: float, batches: list[tuple[int, int]]) -> float:
    """Log e-value against the budget after batches of (requests, bad)."""
    grid = seq.budget_grid(budget)
    portfolio, total = grid.start, 0
    for requests, bad in batches:
        total += requests
        share = seq.share_of(budget * requests, budget * total)
        portfolio = seq.settle(grid, portfolio, seq.budget_bets(budget, requests, bad), share)
    return portfolio.log_e


@settings(deadline=None)
@given(budget=BUDGETS, part=st.integers(0, 20), requests=st.integers(1, 40))
def test_a_bet_against_the_budget_gains_nothing_on_average_while_the_rate_is_within(
    budget: float, part: int, requests: int
) -> None:
    bads = range(requests + 1)
    chances = stats.binom.pmf(list(bads), requests, budget * part / 20)
    factors = [seq.budget_bets(budget, requests, bad) for bad in bads]
    for alternative in range(len(factors[0])):
        mean = sum(
            chance * math.exp(factor[alternative])
            for chance, factor in zip(chances, factors, strict=True)
            if chance > 0.0
        )
        assert mean <= 1.0 + 1e-6


@settings(deadline=None)
@given(budget=BUDGETS)
def test_alternatives_lie_above_the_budget_in_order(budget: float) -> None:
    grid = seq.budget_grid(budget)
    rates = grid.alternatives
    assert all(low < high for low, high in zip((budget, *rates), (*rates, 1.0), strict=True))
    assert rates[-1] >= 0.9
    assert len(rates) < 32
    assert sum(math.exp(wealth) for wealth in grid.start.log_wealth) == pytest.approx(1.0)


def test_all_of_the_wealth_is_staked_or_kept_when_comparing() -> None:
    assert sum(math.exp(wealth) for wealth in seq.COMPARISON.start.log_wealth) == pytest.approx(1.0)


@settings(deadline=None)
@given(
    canary=st.integers(1, 60),
    stable=st.integers(1, 60),
    part=st.floats(0.0, 1.0),
    odds=st.sampled_from([1.0, 0.6, 0.1]),
)
def test_a_bet_on_a_worse_canary_gains_nothing_on_average_while_it_is_no_worse(
    canary: int, stable: int, part: float, odds: float
) -> None:
    bad = round(part * (canary + stable))
    law = stats.nchypergeom_fisher(canary + stable, bad, canary, odds)
    low, high = max(0, bad - stable), min(canary, bad)
    means = [0.0] * len(seq.COMPARISON.alternatives)
    for mine in range(low, high + 1):
        chance = float(law.pmf(mine))
        for index, factor in enumerate(seq.comparison_bets((canary, mine), (stable, bad - mine))):
            means[index] += chance * math.exp(factor)
    assert all(mean <= 1.0 + 1e-6 for mean in means)


@pytest.mark.parametrize(("canary", "stable", "bad"), [(200, 300, 150), (70, 5000, 90), (400, 100, 250), (90, 90, 90)])
def test_the_bound_for_many_bad_requests_is_fair_too(canary: int, stable: int, bad: int) -> None:
    low, high = max(0, bad - stable), min(canary, bad)
    assert high - low > seq.EXACT_TERMS
    law = stats.hypergeom(canary + stable, bad, canary)
    for index, _ in enumerate(seq.COMPARISON.alternatives):
        mean = sum(
            float(law.pmf(mine)) * math.exp(seq.comparison_bets((canary, mine), (stable, bad - mine))[index])
            for mine in range(low, high + 1)
            if law.pmf(mine) > 0.0
        )
        assert mean <= 1.0 + 1e-6


@settings(deadline=None)
@given(
    canary=st.integers(1, 40),
    stable=st.integers(1, 1000),
    mine=st.integers(0, 39),
    theirs=st.integers(0, 20),
)
def test_one_more_bad_request_of_the_canary_never_speaks_for_it(
    canary: int, stable: int, mine: int, theirs: int
) -> None:
    assume(mine < canary and theirs <= stable)
    less = seq.comparison_bets((canary, mine), (stable, theirs))
    more = seq.comparison_bets((canary, mine + 1), (stable, theirs))
    assert all(after >= before - 1e-9 for before, after in zip(less, more, strict=True))
    assert all(
        after > before
        for before, after in zip(
            seq.budget_bets(0.01, canary, mine), seq.budget_bets(0.01, canary, mine + 1), strict=True
        )
    )


@settings(deadline=None)
@given(canary=st.integers(1, 40), stable=st.integers(1, 500), mine=st.integers(0, 40), theirs=st.integers(0, 100))
def test_one_more_bad_request_of_stable_never_speaks_against_the_canary(
    canary: int, stable: int, mine: int, theirs: int
) -> None:
    assume(mine <= canary and theirs < stable)
    less = seq.comparison_bets((canary, mine), (stable, theirs))
    more = seq.comparison_bets((canary, mine), (stable, theirs + 1))
    assert all(after <= before + 1e-9 for before, after in zip(less, more, strict=True))


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 1000), min_size=1, max_size=10))
def test_spreading_wealth_anew_costs_the_same_however_requests_are_batched(sizes: list[int]) -> None:
    kept, total = 1.0, 0
    for size in sizes:
        total += size
        kept *= 1.0 - seq.share_of(size, total)
    assert kept == pytest.approx(1.0 - seq.share_of(total, total))


@settings(deadline=None)
@given(
    st.lists(st.floats(-50.0, 50.0), min_size=3, max_size=3),
    st.lists(st.floats(-50.0, 50.0), min_size=2, max_size=2),
    st.floats(0.0, 1.0),
)
def test_wealth_is_neither_made_nor_lost_by_spreading_it(
    wealth: list[float], factors: list[float], share: float
) -> None:
    grid, before = seq.Grid((2.0, 4.0), (0.3, 0.7)), seq.Portfolio(tuple(wealth))
    spread = seq.settle(grid, before, (0.0, 0.0), share)
    assert seq.log_sum_exp(spread.log_wealth) == pytest.approx(seq.log_sum_exp(wealth), abs=1e-9)
    after = seq.settle(grid, before, factors, share)
    by_hand = [value + factor for value, factor in zip(spread.log_wealth, (0.0, *factors), strict=True)]
    assert after.log_wealth == pytest.approx(by_hand, abs=1e-9)


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 500.0), min_size=2, max_size=8))
def test_what_is_kept_between_looks_is_never_more_than_was_won(wealth: list[float]) -> None:
    kept = seq.capped(seq.Portfolio(tuple(wealth)), math.log(200.0))
    assert all(after <= before for before, after in zip(wealth, kept.log_wealth, strict=True))
    assert seq.log_sum_exp(kept.log_wealth) <= math.log(200.0) + seq.CAP + 1e-9


def test_a_rate_at_the_budget_crosses_no_oftener_than_promised_however_often_one_looks() -> None:
    rng, budget, error, runs = random.Random(1), 0.05, 0.1, 400
    crossed = 0
    for _ in range(runs):
        portfolio = seq.budget_grid(budget).start
        for count in range(1, 151):
            bets = seq.budget_bets(budget, 1, rng.random() < budget)
            portfolio = seq.settle(seq.budget_grid(budget), portfolio, bets, seq.share_of(budget, budget * count))
            if portfolio.log_e >= -math.log(error):
                crossed += 1
                break
    assert 0 < crossed <= stats.binom.ppf(0.999, runs, error)


def test_two_equal_revisions_cross_no_oftener_than_promised_through_spikes() -> None:
    rng, error, runs = random.Random(2), 0.1, 400
    crossed = 0
    for _ in range(runs):
        portfolio, seen = seq.COMPARISON.start, 0
        for _look in range(200):
            rate = 0.6 if rng.random() < 0.2 else 0.05
            size = rng.randint(1, 8), rng.randint(1, 8)
            bad = tuple(sum(rng.random() < rate for _ in range(count)) for count in size)
            seen += sum(bad)
            if sum(bad):
                bets = seq.comparison_bets((size[0], bad[0]), (size[1], bad[1]))
                portfolio = seq.settle(seq.COMPARISON, portfolio, bets, seq.share_of(sum(bad), seen))
            if portfolio.log_e >= -math.log(error):
                crossed += 1
                break
    assert 0 < crossed <= stats.binom.ppf(0.999, runs, error)


def test_evidence_comes_soon_even_after_a_long_time_of_health() -> None:
    fresh = [(1, 1)] * 4
    healthy = [(20, 0)] * 1500
    assert e_value(0.01, fresh) > math.log(200.0)
    assert e_value(0.01, healthy) < 0.0
    assert e_value(0.01, healthy + [(1, 1)] * 8) > math.log(200.0)


@settings(deadline=None)
@given(
    budget=BUDGETS, requests=st.integers(1, 100_000_000), part=st.floats(0.0, 1.0), others=st.integers(1, 100_000_000)
)
def test_large_and_extreme_counts_stay_finite(budget: float, requests: int, part: float, others: int) -> None:
    bad = round(part * requests)
    values = [
        *seq.budget_bets(budget, requests, bad),
        *seq.comparison_bets((requests, bad), (others, 0)),
        *seq.comparison_bets((requests, 0), (others, others)),
        *seq.comparison_bets((requests, bad), (others, round((1.0 - part) * others))),
        e_value(budget, [(requests, bad)]),
        seq.acceptance(budget, seq.breach_worth_catching(budget, 100), requests, bad),
    ]
    assert all(math.isfinite(value) for value in values)
    low, high = seq.rate_interval(requests, bad)
    assert 0.0 <= low <= bad / requests <= high <= 1.0


@pytest.mark.parametrize("counts", [(10, 0), (10, 10), (100, 3), (1000, 120), (1_000_000, 20)])
def test_the_interval_is_wider_than_one_for_a_single_look_but_not_by_much(counts: tuple[int, int]) -> None:
    requests, bad = counts
    low, high = seq.rate_interval(requests, bad)
    once = stats.binomtest(bad, requests).proportion_ci(0.95)
    assert low <= once.low
    assert high >= once.high
    assert high - low < 2.5 * (once.high - once.low)


def test_a_few_bad_requests_on_one_side_are_counted_exactly() -> None:
    """All ten of the canary bad and none of stable's ten: one way among the binomial coefficient of 20 over 10."""
    assert max(seq.comparison_bets((10, 10), (10, 0))) == pytest.approx(math.log(math.comb(20, 10)), abs=0.15)


def test_bad_requests_of_one_second_count_as_two_at_most() -> None:
    for seconds, most in ((0.2, 2), (1.0, 2), (3.0, 6)):
        found = seq.comparison_bets((10, 10), (10, 0), seconds)
        assert max(found) == pytest.approx(most * math.log(2))
    assert seq.comparison_bets((1, 1), (19, 0), 1.0) == seq.comparison_bets((1, 1), (19, 0))
    assert max(seq.comparison_bets((5000, 4000), (5000, 100), 1.0)) == pytest.approx(2 * math.log(2))


def test_a_struck_side_of_which_few_requests_end_counts_with_what_was_routed_to_it() -> None:
    ended = seq.comparison_bets((4, 4), (20, 0), 1.0)
    assert max(ended) == pytest.approx(2 * math.log(6))
    assert max(seq.comparison_bets((4, 4), (20, 0), 1.0, 0.5)) == pytest.approx(2 * math.log(2))
    assert seq.comparison_bets((4, 4), (20, 0), 1.0, 0.05) == ended


def test_nothing_is_known_without_requests() -> None:
    assert seq.rate_interval(0, 0) == (0.0, 1.0)
    assert seq.comparison_bets((0, 0), (50, 20)) == (0.0,) * len(seq.COMPARISON.alternatives)
    assert seq.comparison_bets((50, 20), (0, 0)) == (0.0,) * len(seq.COMPARISON.alternatives)


def test_the_true_rate_stays_inside_the_interval_at_all_times() -> None:
    rng, rate, runs = random.Random(3), 0.1, 200
    left = 0
    for _ in range(runs):
        bad = 0
        for requests in range(1, 101):
            bad += rng.random() < rate
            low, high = seq.rate_interval(requests, bad, 0.1)
            if not low <= rate <= high:
                left += 1
                break
    assert 0 < left <= stats.binom.ppf(0.999, runs, 0.1)


@settings(deadline=None)
@given(budget=st.sampled_from([1e-4, 0.001, 0.01, 0.1, 0.6]), least=st.integers(1, 10_000), above=st.floats(0.0, 1.0))
def test_a_breach_worth_catching_gains_nothing_on_average_from_acceptance(
    budget: float, least: int, above: float
) -> None:
    breach = seq.breach_worth_catching(budget, least)
    assert budget < breach < 1.0
    rate = breach + above * (1.0 - breach)
    good, bad = (math.exp(seq.acceptance(budget, breach, 1, bad)) for bad in (0, 1))
    assert rate * bad + (1.0 - rate) * good <= 1.0 + 1e-9


def test_a_look_takes_less_than_a_millisecond() -> None:
    cases = [
        ((64, 64), (10_000_000, 10)),
        ((50_000_000, 40_000_000), (100_000_000, 1_000_000)),
        ((1000, 64), (1000, 0)),
    ]
    best = math.inf
    for _ in range(20):
        start = time.perf_counter()
        for canary, stable in cases:
            seq.comparison_bets(canary, stable)
            seq.budget_bets(1e-5, *canary)
        best = min(best, (time.perf_counter() - start) / len(cases))
    assert best < 1e-3
