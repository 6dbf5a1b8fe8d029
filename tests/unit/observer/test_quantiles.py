"""Intervals of quantiles hold the true one as often as they promise, for any distribution."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest

from tapchanger_serving.contract.ranks import ranks
from tapchanger_serving.contract.windows import Quantiles
from tapchanger_serving.observer import sketch
from tapchanger_serving.observer.quantiles import quantiles

SIZES = [*range(1, 60), 100, 299, 400, 1000]


def held(number: int, q: float) -> tuple[float, float]:
    """The chance that the true quantile is below the lower bound, and above the upper one, in exact arithmetic."""
    low, high = ranks(number, q)
    share = Fraction(q).limit_denominator(1000)

    def at_most(k: int) -> Fraction:
        return sum(
            (Fraction(math.comb(number, i)) * share**i * (1 - share) ** (number - i) for i in range(k + 1)), Fraction(0)
        )

    below = Fraction(0) if low is None else at_most(low)
    above = Fraction(0) if high is None else 1 - at_most(high)
    return float(below), float(above)


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
def test_each_bound_errs_in_at_most_half_of_five_percent(q: float) -> None:
    for number in SIZES:
        below, above = held(number, q)
        assert below <= 0.025 + 1e-9, number
        assert above <= 0.025 + 1e-9, number


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
def test_bounds_are_as_narrow_as_the_promise_allows(q: float) -> None:
    """One rank closer would break it."""
    for number in SIZES:
        low, high = ranks(number, q)
        share = [math.comb(number, k) * q**k * (1 - q) ** (number - k) for k in range(number + 1)]
        nearer = 0 if low is None else low + 1
        assert sum(share[: nearer + 1]) > 0.025 - 1e-9
        if high is not None:
            assert sum(share[high:]) > 0.025 - 1e-9


def test_many_requests_bound_every_quantile_closely() -> None:
    low, high = ranks(1_000_000, 0.99)
    assert low is not None
    assert high is not None
    assert 989_700 < low < 990_000 < high < 990_300


def test_both_ways_of_counting_agree_where_they_meet() -> None:
    exact, rough = ranks(3999, 0.5), ranks(4001, 0.5)
    for one, other in zip(exact, rough, strict=True):
        assert one is not None
        assert other is not None
        assert abs(one - other) <= 3


def test_an_interval_covers_the_true_quantile_of_a_heavy_tail() -> None:
    chance = random.Random(7)
    true = math.exp(0.7 * 2.3263478740408408 - 3.5)
    missed = 0
    for _ in range(300):
        seen: sketch.Sketch = {}
        for _ in range(600):
            sketch.add(seen, chance.lognormvariate(-3.5, 0.7))
        interval = quantiles(seen).p99_interval
        assert interval
        assert interval.low is not None
        missed += not (interval.low <= true and (interval.high is None or true <= interval.high))
    assert missed <= 0.05 * 300


def test_too_few_requests_leave_a_side_open() -> None:
    seen: sketch.Sketch = {}
    for _ in range(50):
        sketch.add(seen, 0.04)
    found = quantiles(seen)
    assert found.p50_interval
    assert found.p99_interval
    assert found.p50_interval.high is not None
    assert found.p99_interval.high is None
    assert quantiles({}) == Quantiles()
