"""Sequential tests that may be looked at after every request.

A test here is a bettor. It starts with wealth 1 and stakes it against a null hypothesis at odds that are fair or
worse when the null is true, so that its wealth is a non-negative supermartingale, and by Ville's inequality (Ville
1939; Howard et al. 2020, "Time-uniform Chernoff bounds") `P(wealth ever >= 1/a) <= a`: the wealth is an *e-value*,
and looking at it as often as one likes costs nothing (Ramdas et al. 2023, "Game-theoretic statistics and safe
anytime-valid inference").

Three pieces:

* :func:`settle` keeps a :class:`Portfolio` of bets on a fixed grid of alternatives, the method of mixtures (Robbins
  1970) on a finite grid, with the fixed share of Herbster and Warmuth (1998): a small part of the wealth is spread
  anew as requests pass, so that a canary which breaks after an hour of health is caught nearly as fast as one that
  starts broken.
* :func:`budget_bets` and :func:`comparison_bets` give the log factors of one batch of requests for each alternative.
* :func:`rate_interval` (a confidence sequence) and :func:`acceptance` (Wald's sequential test, from the other side).

Everything is a function of counts; batches may be of any size, and times at which one looks may be chosen freely as
long as they don't depend on outcomes not yet counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

CASH = 0.05
"""Part of the starting wealth that is never staked: what the bettor falls back on while the canary is healthy."""

FADE = 0.75
"""Each alternative to a budget gets so much of what the next nearer one gets."""

PATIENCE = 1000.0
"""How many expected bad requests it takes until half of the wealth has been spread anew."""

CAP = math.log(100.0)
"""Wealth above 100 times the threshold is thrown away, so that a breach which is over is soon no evidence any more."""

FINE_BREACH = 2.0
"""A breach of so many times the budget is what a pass should speak against, where there are requests enough to tell."""

EXACT_TERMS = 64
"""Up to so many possible splits of the bad requests are summed exactly; beyond, Hoeffding's bound takes over."""


@dataclass(frozen=True, slots=True)
class Portfolio:
    """Log wealth of each holding: first the cash, then one for each alternative of the grid."""

    log_wealth: tuple[float, ...]

    @property
    def log_e(self) -> float:
        """Log e-value: the wealth that is staked, cash left out (so that it falls again when a breach has ended)."""
        return log_sum_exp(self.log_wealth[1:])


@dataclass(frozen=True, slots=True)
class Grid:
    """Alternatives to stake on, and the part of the staked wealth that each gets at the start (parts sum to 1)."""

    alternatives: tuple[float, ...]
    parts: tuple[float, ...]

    @property
    def start(self) -> Portfolio:
        """The starting portfolio, total wealth 1."""
        return Portfolio((math.log(CASH), *(math.log((1.0 - CASH) * part) for part in self.parts)))


def settle(grid: Grid, portfolio: Portfolio, log_factors: Sequence[float], share: float) -> Portfolio:
    """Spreads the part `share` (0 to 1) of the wealth by the starting weights, then multiplies each bet by its factor.

    `log_factors` has one entry for each alternative, each with `E[exp(log_factor) | past] <= 1` under the null.
    `share` must not depend on the outcomes that the factors are made of. Then the total wealth stays a
    supermartingale: a weighted mean, with weights known beforehand, of factors with expectation at most 1.
    """
    total = log_sum_exp(portfolio.log_wealth)
    kept, spread = _log(1.0 - share), _log(share) + total
    factors = (0.0, *log_factors)
    return Portfolio(
        tuple(
            _log_add(wealth + kept, weight + spread) + factor
            for wealth, weight, factor in zip(portfolio.log_wealth, grid.start.log_wealth, factors, strict=True)
        )
    )


def capped(portfolio: Portfolio, log_threshold: float) -> Portfolio:
    """The portfolio with wealth beyond :data:`CAP` above the threshold thrown away, rounded down to a millionth.

    Both only lower the wealth, so that what is kept between looks is still a supermartingale.
    """
    excess = max(0.0, log_sum_exp(portfolio.log_wealth) - log_threshold - CAP)
    return Portfolio(tuple(math.floor((wealth - excess) * 1e6) / 1e6 for wealth in portfolio.log_wealth))


def share_of(batch: float, total: float) -> float:
    """The share to spread anew for `batch` expected bad requests, `total` counting all so far with the batch.

    What is kept, `(total - batch + PATIENCE) / (total + PATIENCE)`, telescopes: one batch of n costs what n of one do.
    """
    return batch / (total + PATIENCE)


def budget_grid(budget: float) -> Grid:
    """Bad rates above `budget` (0 < budget < 1) to stake on: odds that begin near the budget's and double.

    The nearer the larger the part (:data:`FADE`): there a bad request says little and many are needed, while far from
    the budget two or three decide whatever their part.
    """
    odds = budget / (1.0 - budget)
    ratios = [1.5]
    while ratios[-1] * odds < 0.5:
        ratios.append(ratios[-1] * 2.0)
    rates = [ratio * odds / (1.0 + ratio * odds) for ratio in ratios]
    rates += [rate for rate in (0.7, 0.95) if rate > rates[-1]]
    weights = [FADE**index for index in range(len(rates))]
    return Grid(tuple(rates), tuple(weight / sum(weights) for weight in weights))


COMPARISON: Final = Grid((2.0, 6.0, 25.0, 1000.0), (0.05, 0.2, 0.2, 0.55))
"""Odds ratios, canary to stable, that :func:`comparison_bets` stakes on: most on the large ones, since with a small
weight the first two or three bad requests of a broken canary must convict it.
"""


INDEPENDENT: Final = 2.0
"""Of one second no more than so many bad requests count as independent of each other."""


def budget_bets(budget: float, requests: int, bad: int) -> tuple[float, ...]:
    """Log likelihood ratios, each alternative rate against `budget`, of `bad` bad ones among `requests`.

    Null: each request, given the past, is bad with a probability q of at most `budget` (it may vary). One request's
    factor has the expectation `q p/p0 + (1-q)(1-p)/(1-p0)`, which grows with q as p > p0 and is 1 at q = p0: at most
    1 on all of the null. It depends on counts alone, so the order of requests within a batch is of no matter.
    """
    good = requests - bad
    return tuple(
        bad * math.log(rate / budget) + good * (math.log1p(-rate) - math.log1p(-budget))
        for rate in budget_grid(budget).alternatives
    )


def comparison_bets(
    canary: tuple[int, int], stable: tuple[int, int], seconds: float = math.inf, part: float = 0.0
) -> tuple[float, ...]:
    """Log factors of one batch, one for each odds ratio of :data:`COMPARISON`.

    `canary` and `stable` are (requests, bad) of the same time, which was `seconds` long; `part` (0 to 1) is the canary's of all
    requests as they are routed.

    Null: the canary is no worse than the stable revision at the same time, however bad both are. Then, given how many
    requests each got and how many were bad in all, the bad ones of the canary are at most hypergeometric, and
    `odds**bad / E[odds**bad]` is an e-variable: Fisher's exact test, bet by bet. As requests are routed at random
    this needs neither a steady rate nor independent requests: a spike raises the total, which is conditioned upon.
    (The e-variables of Turner, Ly and Grünwald 2024 gain more in small batches, but assume one rate throughout a
    batch.)

    With more than :data:`EXACT_TERMS` possible splits the expectation is replaced by Hoeffding's upper bounds (1963,
    theorem 4: drawing without replacement is dominated by drawing with it), which only makes the e-value smaller. So does the
    bound of :data:`INDEPENDENT` bad requests a second, each of which is the canary's by chance as often as a request is: by what
    was routed or by what has ended, whichever is more, since few end on a side that was struck.
    """
    bad = canary[1] + stable[1]
    if bad == 0 or canary[0] == 0 or stable[0] == 0:
        return (0.0,) * len(COMPARISON.alternatives)
    total = canary[0] + stable[0]
    most = INDEPENDENT * max(1.0, seconds) * -math.log(max(canary[0] / total, part))
    low, high = max(0, bad - stable[0]), min(canary[0], bad)
    if high - low > EXACT_TERMS:
        return tuple(
            min(
                most,
                canary[1] * math.log(odds)
                - min(
                    bad * math.log1p((odds - 1.0) * canary[0] / total),
                    canary[0] * math.log1p((odds - 1.0) * bad / total),
                ),
            )
            for odds in COMPARISON.alternatives
        )
    chances = _hypergeometric(total, bad, canary[0], low, high)
    return tuple(
        min(most, (canary[1] - low) * math.log(odds) - math.log(_polynomial(chances, odds)))
        for odds in COMPARISON.alternatives
    )


def rate_interval(requests: int, bad: int, error: float = 0.05) -> tuple[float, float]:
    """A confidence sequence for a rate: at all times at once, the true rate is inside with a probability of `1 -
    error`.

    All rates p at which the Beta(1/2, 1/2) mixture of likelihoods is less than `1/error` times p's own likelihood
    (Robbins 1970; Howard et al. 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences"). Without
    requests: (0, 1).
    """
    good = requests - bad
    bound = _log_beta(bad + 0.5, good + 0.5) - _log_beta(0.5, 0.5) + math.log(error)
    if requests == 0:
        return 0.0, 1.0
    peak = bad / requests

    def inside(rate: float) -> bool:
        return (bad * _log(rate) if bad else 0.0) + (good * _log(1.0 - rate) if good else 0.0) > bound

    low = _bisect(inside, peak, 0.0) if bad else 0.0
    high = _bisect(inside, peak, 1.0) if good else 1.0
    return low, high


def breach_worth_catching(budget: float, min_requests: int) -> float:
    """The bad rate that every pass speaks against: :data:`FINE_BREACH` budgets, or five bad ones in `min_requests` where
    that is more.
    """
    return min(max(FINE_BREACH * budget, 5.0 / max(min_requests, 1)), (1.0 + budget) / 2.0)


def fine_breach(budget: float) -> float:
    """The bad rate that a pass speaks against where there are requests enough to tell it from the budget."""
    return min(FINE_BREACH * budget, (1.0 + budget) / 2.0)


def acceptance(budget: float, breach: float, requests: int, bad: int) -> float:
    """Log e-value for "within `budget`" against "bad rate of at least `breach`" (budget < breach < 1).

    The likelihood ratio of Wald's sequential probability ratio test (1945), turned around: as long as each request is
    bad with a probability of at least `breach`, it is a supermartingale, so P(ever >= K) <= 1/K.
    """
    good = requests - bad
    return bad * math.log(budget / breach) + good * (math.log1p(-budget) - math.log1p(-breach))


def log_sum_exp(values: Sequence[float]) -> float:
    """log(sum(exp(values))) without overflow."""
    top = max(values)
    if top == -math.inf:
        return top
    return top + math.log(math.fsum(math.exp(value - top) for value in values))


def _hypergeometric(total: int, bad: int, drawn: int, low: int, high: int) -> list[float]:
    logs = [0.0]
    for k in range(low, high):
        logs.append(logs[-1] + math.log((bad - k) * (drawn - k)) - math.log((k + 1) * (total - bad - drawn + k + 1)))
    norm = log_sum_exp(logs)
    return [math.exp(value - norm) for value in logs]


def _polynomial(coefficients: Sequence[float], x: float) -> float:
    value = 0.0
    for coefficient in reversed(coefficients):
        value = value * x + coefficient
    return value


def _bisect(inside: Callable[[float], bool], near: float, far: float) -> float:
    for _ in range(60):
        middle = (near + far) / 2.0
        near, far = (middle, far) if inside(middle) else (near, middle)
    return far


def _log(value: float) -> float:
    return math.log(value) if value > 0.0 else -math.inf


def _log_add(first: float, second: float) -> float:
    top, low = max(first, second), min(first, second)
    return top if low == -math.inf else top + math.log1p(math.exp(low - top))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
