"""What is known of means of bounded outcomes, looked at as often as one likes.

Every outcome is a number from 0 to 1. For an arm and a mean `m` there is a wealth process that bets against `m`:

* Outcomes of 0 and 1 (and any between): `exp(l * S) / (1 + m (exp(l) - 1))**n` for n outcomes with the sum S. It is the
  sub-Bernoulli process of Howard et al. 2021 ("Time-uniform, nonparametric, nonasymptotic confidence sequences", table 3).
* Scores: `exp(l * (S - n m) - psi(l) V)` with `psi(l) = -log(1 - l) - l` for bets upwards, and the same for `1 - x`
  downwards, where V sums the squared differences from what was predicted before (theorem 4 there; Waudby-Smith and Ramdas
  2024, "Estimating means of bounded random variables by betting", section 3). It gains where scores differ little.

Both are mixed over a fixed grid of bets `l`, up and down (Robbins 1970). If the mean of what was expected of the n outcomes
so far is `m`, the wealth is at most a supermartingale that starts at 1: `E[exp(l x)] <= 1 + m_i (exp(l) - 1)`, and the product
of these is at most the power of their mean. So means may drift (there is a night and a day), and by Ville's inequality
`P(wealth at the true mean ever >= 1/a) <= a`.

The wealths of two arms, multiplied, are again such a process, since each outcome belongs to one of them. All pairs of means
at which the product is below `1/a` are a confidence set for both, and its differences an interval for the difference that
holds at all times, a fifth narrower than the difference of two intervals with half of the error each.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["binary", "score"]

BETS: Final[Mapping[Kind, tuple[float, ...]]] = {
    "binary": tuple(4.0 * 2.0**-power for power in range(14)),
    "score": tuple(0.75 * 2.0**-power for power in range(12)),
}
"""How hard to bet: the small ones are for many outcomes, the large ones for rare failures. Each doubles the last, so that
none is far from the best one for any number of outcomes up to about ten million."""
_SEARCH_STEPS: Final = 60
"""At most; a handful suffices."""
_EDGE_STEPS: Final = 28
_FACTORS: Final = tuple((bet, math.expm1(bet)) for size in BETS["binary"] for bet in (size, -size))
_COSTS: Final = tuple((bet, -math.log1p(-size) - size) for size in BETS["score"] for bet in (size, -size))


@dataclass(frozen=True, slots=True)
class Tally:
    """Outcomes of one arm: how many, their sum, and the sum of squared differences from what was predicted of them."""

    count: int = 0
    total: float = 0.0
    spread: float = 0.0

    @property
    def mean(self) -> float | None:
        """The mean, None without outcomes."""
        return self.total / self.count if self.count else None

    def plus(self, count: int, total: float, squares: float) -> Tally:
        """With `count` new outcomes, given their sum and their sum of squares. Raises ValueError for sums that can't be.

        All of them are predicted by the mean of those before, which is what makes `spread` fit for a bet.
        """
        slack = 1e-9 * max(count, 1)
        if count < 0 or not -slack <= squares <= total + slack or not total <= count + slack:
            raise ValueError(f"{count} outcomes between 0 and 1 can't have the sum {total} and the squares {squares}")
        predicted = (self.total + 0.5) / (self.count + 1)
        differences = squares - 2 * predicted * total + count * predicted**2
        return Tally(self.count + count, self.total + total, self.spread + max(0.0, differences))


@dataclass(frozen=True, slots=True)
class Difference:
    """An arm's mean less another's, with an interval that holds at all times."""

    estimate: float
    low: float
    high: float


def log_wealth(tally: Tally, kind: Kind, mean: float) -> float:
    """Log of the wealth of a bettor against `mean` (0 to 1): large where the outcomes speak against it. Convex in `mean`."""
    return _tangent(tally, kind, mean)[0]


def _tangent(tally: Tally, kind: Kind, mean: float) -> tuple[float, float]:
    """The log of the wealth at `mean`, and its slope there: that of each bet, weighted by what the bet has won."""
    count, total = tally.count, tally.total
    if kind == "binary":
        logs = [bet * total - count * math.log1p(mean * factor) for bet, factor in _FACTORS]
        slopes = [-count * factor / (1.0 + mean * factor) for _, factor in _FACTORS]
    else:
        away = total - count * mean
        logs = [bet * away - cost * tally.spread for bet, cost in _COSTS]
        slopes = [-count * bet for bet, _ in _COSTS]
    top = max(logs)
    won = [math.exp(log - top) for log in logs]
    all_won = math.fsum(won)
    return top + math.log(all_won / len(won)), math.fsum(map(operator.mul, won, slopes)) / all_won


def interval(tally: Tally, kind: Kind, error: float = 0.05) -> tuple[float, float]:
    """Where the mean is, at all times at once with a probability of `1 - error`; (0, 1) without outcomes."""
    mean = tally.mean
    if mean is None:
        return 0.0, 1.0
    bound = -math.log(error)

    def inside(m: float) -> bool:
        return log_wealth(tally, kind, m) < bound

    return _edge(inside, mean, 0.0), _edge(inside, mean, 1.0)


def possible(first: Tally, second: Tally, kind: Kind, gap: float, bound: float) -> bool:
    """Whether some pair of means that differ by `gap` leaves the log of both bettors' wealth below `bound`."""
    low, high = max(0.0, -gap), min(1.0, 1.0 - gap)

    def tangent(m: float) -> tuple[float, float]:
        (value, slope), (more, steeper) = _tangent(second, kind, m), _tangent(first, kind, min(1.0, max(0.0, m + gap)))
        return value + more, slope + steeper

    pooled = (first.total - gap * first.count + second.total) / max(1, first.count + second.count)
    return _falls_below(tangent, min(high, max(low, pooled)), low, high, bound)


def exceeds(first: Tally, second: Tally, kind: Kind, gap: float, error: float) -> bool:
    """Whether it is shown, at all times with at most `error`, that the mean of `first` is that of `second` and more than
    `gap`: the estimate does exceed it, and no pair of means with just this difference is left.
    """
    if first.mean is None or second.mean is None or first.mean - second.mean <= gap:
        return False
    return not possible(first, second, kind, gap, -math.log(error))


def difference(first: Tally, second: Tally, kind: Kind, error: float) -> Difference:
    """The mean of `first` less that of `second`, with its interval. Both have outcomes."""
    estimate = (first.mean or 0.0) - (second.mean or 0.0)
    bound = -math.log(error)

    def inside(gap: float) -> bool:
        return possible(first, second, kind, gap, bound)

    return Difference(estimate, _edge(inside, estimate, -1.0), _edge(inside, estimate, 1.0))


def _falls_below(
    tangent: Callable[[float], tuple[float, float]], m: float, low: float, high: float, bound: float
) -> bool:
    """Whether a convex function is below `bound` anywhere from `low` to `high`, looking at `m` first.

    A convex function is nowhere below its tangents, so two of them that meet above the bound prove that it isn't
    (Kelley 1960, "The cutting-plane method for solving convex programs"). Where neither is shown it counts as below.
    """
    left = right = (math.nan, math.nan, math.nan)
    for _ in range(_SEARCH_STEPS):
        value, slope = tangent(m)
        if value < bound:
            return True
        width = high - low
        if slope < 0.0:
            low, left = m, (m, value, slope)
        else:
            high, right = m, (m, value, slope)
        m, floor = _meeting(left, right, low, high)
        if floor >= bound:
            return False
        if high - low > width / 2.0 and low < m < high:
            m = (low + high) / 2.0
    return True


def _meeting(
    left: tuple[float, float, float], right: tuple[float, float, float], low: float, high: float
) -> tuple[float, float]:
    """Where the falling tangent of `left` and the rising one of `right` meet, or the one there is ends; and how high that is."""
    (at, value, slope), (other, there, rise) = left, right
    if math.isnan(at):
        return low, there + rise * (low - other)
    if math.isnan(other):
        return high, value + slope * (high - at)
    middle = min(high, max(low, at + (value - there - rise * (at - other)) / (rise - slope)))
    return middle, max(value + slope * (middle - at), there + rise * (middle - other))


def _edge(inside: Callable[[float], bool], near: float, far: float) -> float:
    """The last point inside, going from `near` (inside) towards `far`, rounded outwards."""
    if inside(far):
        return far
    for _ in range(_EDGE_STEPS):
        middle = (near + far) / 2.0
        near, far = (middle, far) if inside(middle) else (near, middle)
    return far
