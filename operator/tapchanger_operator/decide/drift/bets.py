"""Bets against "this signal still has the reference's distribution".

A bet multiplies what is staked by `exp(a[k]) / B` for a text in bin k. `B` is an upper confidence bound, from the
reference's own texts, of the mean of `exp(a)`; so for every distribution that the reference leaves possible a factor has an
expectation of at most 1, and the product over texts is an e-value (Ramdas et al. 2023, "Game-theoretic statistics and safe
anytime-valid inference"). Without that bound a monitor that listens long enough would take the reference's sampling error
for drift.

Half of the bets are against "this signal still has the distribution that the reference and the traffic so far share", which is
neither's alone. Were all of these texts drawn alike, each order of them would be as probable as any other; so the texts of a step
are a sample without replacement of the whole, of which the mean of `exp(a)` is known exactly, and the factor has an expectation
of at most 1 (Hoeffding 1963, theorem 4; Vovk, Gammerman, Shafer 2022, "Algorithmic learning in a random world", chapter 8). They
need no bound on the reference's sampling error, and so notice small changes sooner, but get used to slow ones.

The exponents are tilts of the whole distribution (up and down, three sizes), a tilt of a small part of it, as new topics make,
and for values without an order more or less weight on each of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from tapchanger_operator.decide.drift.coarse import Coarse
from tapchanger_serving.contract.drift import BY_NAME, FEATURES

TILTS: Final = (0.3, 0.8, 1.8)
SKETCH_TILTS: Final = (0.3, 0.9)
PARTS: Final = (0.03, 0.1)
PART_TILT: Final = 1.5
"""Shares of the texts that are of another kind while all others are as before, and the tilt by which these differ."""
VALUE: Final = (0.5, 1.2, 2.5)
"""Log of the odds by which a value without an order grows, or shrinks by the first two of them."""
DEVIATIONS: Final = 3.0
"""Standard errors by which the traffic may differ from the reference's texts and still count as the same."""
TOLERANCE: Final = 0.05
"""A shift of the mean by so many standard deviations is no drift worth telling, however sure one is of it."""


@dataclass(frozen=True)
class Bet:
    """Log factor of a text in each bin."""

    log_factors: tuple[float, ...]


@dataclass(frozen=True)
class Pooled:
    """A bet against the reference and the traffic together: `exponents` of each bin, and e to their power."""

    exponents: tuple[float, ...]
    raised: tuple[float, ...]


@lru_cache(maxsize=2048)
def bets(coarse: Coarse) -> tuple[Bet, ...]:
    """All bets on one signal against the reference."""
    return tuple(_bet(coarse, exponents) for exponents in _exponents(coarse))


@lru_cache(maxsize=2048)
def pooled(coarse: Coarse) -> tuple[Pooled, ...]:
    """All bets on one signal against the reference and the traffic together; none on the sketch, which has many signals."""
    if BY_NAME[coarse.signal].feature == "embedding":
        return ()
    found = _exponents(coarse)
    return tuple(Pooled(exponents, tuple(math.exp(one) for one in exponents)) for exponents in found)


def bet_count(coarse: Coarse) -> int:
    """How many bets there are on a signal."""
    return len(bets(coarse)) + len(pooled(coarse))


def log_e(bet: Bet, counts: Sequence[int], effect: float) -> float:
    """Log e-value of the texts `counts` by bin, which say as much as a 1/`effect` of so many independent ones.

    For independent texts the product of factors to the power 1/effect is an e-value as well (Jensen), only a weaker one.
    """
    return sum(count * factor for count, factor in zip(counts, bet.log_factors, strict=True)) / effect


def log_e_pooled(bet: Pooled, counts: Sequence[int], pool: Sequence[int], effect: float) -> float:
    """Log e-value of the texts `counts` among all in `pool`, which holds the reference, the traffic so far, and these.

    A part of it is given away for each text, so that no shift of the mean by less than :data:`TOLERANCE` standard deviations
    gains anything in the long run: a bet on a shift by d gains at most d²/2 a text.
    """
    texts = sum(counts)
    won = sum(count * exponent for count, exponent in zip(counts, bet.exponents, strict=True))
    mean = sum(count * raised for count, raised in zip(pool, bet.raised, strict=True)) / sum(pool)
    return (won - texts * (math.log(mean) + TOLERANCE**2 / 2)) / effect


def _exponents(coarse: Coarse) -> list[tuple[float, ...]]:
    size = len(coarse.counts)
    if not coarse.ordered:
        grown = [(number, by) for number in range(size) for by in (*VALUE, -VALUE[0], -VALUE[1])]
        return [tuple(by * (k == number) for k in range(size)) for number, by in grown]
    sketch = BY_NAME[coarse.signal].feature == "embedding"
    tilts = [sign * tilt for tilt in (SKETCH_TILTS if sketch else TILTS) for sign in (1, -1)]
    found = [tuple(tilt * score for score in coarse.scores) for tilt in tilts]
    if sketch or size < 2:
        return found
    return [*found, *(_mixed(coarse, part, sign * PART_TILT) for part in PARTS for sign in (1, -1))]


def _mixed(coarse: Coarse, part: float, tilt: float) -> tuple[float, ...]:
    """Log of how much more frequent each bin is where `part` of the texts are tilted."""
    norm = sum(p * math.exp(tilt * score) for p, score in zip(coarse.shares, coarse.scores, strict=True))
    return tuple(math.log(1.0 - part + part * math.exp(tilt * score) / norm) for score in coarse.scores)


def _bet(coarse: Coarse, exponents: Sequence[float]) -> Bet:
    """Bernstein's inequality bounds the mean of `exp(a)` (Boucheron, Lugosi, Massart 2013, "Concentration inequalities", 2.8)."""
    raised = [math.exp(exponent) for exponent in exponents]
    mean = sum(p * x for p, x in zip(coarse.shares, raised, strict=True))
    variance = sum(p * (x - mean) ** 2 for p, x in zip(coarse.shares, raised, strict=True))
    spread = sum(p * x * x for p, x in zip(coarse.shares, exponents, strict=True)) ** 0.5
    logs = DEVIATIONS**2 / 2
    texts = max(coarse.total, 1)
    bound = mean + math.sqrt(2 * logs * variance / texts) + logs * (max(raised) - min(raised)) / (3 * texts)
    log_bound = math.log(max(bound, mean * math.exp(TOLERANCE * spread)))
    return Bet(tuple(exponent - log_bound for exponent in exponents))


def weights(reference: dict[str, Coarse]) -> dict[str, float]:
    """The part of the whole stake that each bet on a signal gets: equal by feature, by signal, by bet."""
    found: dict[str, float] = {}
    features = [feature for feature in FEATURES if any(BY_NAME[name].feature == feature for name in reference)]
    for feature in features:
        signals = [name for name in reference if BY_NAME[name].feature == feature]
        for name in signals:
            found[name] = 1.0 / (len(features) * len(signals) * bet_count(reference[name]))
    return found
