"""How sure a quantile is, without assuming any distribution.

Of n independent latencies the number below the true q-quantile is binomial (n, q), whatever they are distributed like. So
the l-th smallest is above the quantile with P(B < l), and the u-th smallest below it with P(B >= u); l and u are chosen
such that each is at most half of what is missing to the confidence (David and Nagaraja, "Order Statistics", 3rd edition
2003, section 7.1). The bounds hold for one look; they are for reading, not for deciding.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import Final

CONFIDENCE: Final = 0.95
_EXACT_UP_TO: Final = 1_000.0
"""Variance beyond which the normal approximation is used, one rank wider: it errs there by less than 0.1 % of chance."""


@lru_cache(maxsize=4096)
def ranks(number: int, q: float, confidence: float = CONFIDENCE) -> tuple[int | None, int | None]:
    """Ranks (from 0) of the sorted sample between which the q-quantile lies with `confidence` at least.

    None where `number` latencies are too few for a bound on that side.
    """
    tail = (1 - confidence) / 2
    variance = number * q * (1 - q)
    if variance > _EXACT_UP_TO:
        half = NormalDist().inv_cdf(1 - tail) * math.sqrt(variance)
        low, high = math.floor(number * q - half), math.ceil(number * q + half) + 1
    else:
        low, high = _exact_ranks(number, q, tail, math.sqrt(variance))
    return (low - 1 if low >= 1 else None), (high - 1 if high <= number else None)


def _exact_ranks(number: int, q: float, tail: float, deviation: float) -> tuple[int, int]:
    """The largest l with P(B < l) <= tail and the smallest u with P(B >= u) <= tail, counted from 1."""
    reach = int(9 * deviation) + 30
    mode = min(number, int((number + 1) * q))
    first, last = max(0, mode - reach), min(number, mode + reach)
    chance = _binomial(number, q, first, mode, last)
    low, below = first, 0.0
    while below + chance[low - first] <= tail:
        below += chance[low - first]
        low += 1
    high, above = last + 1, 0.0
    while above + chance[high - 1 - first] <= tail:
        high -= 1
        above += chance[high - first]
    return low, high


def _binomial(number: int, q: float, first: int, mode: int, last: int) -> list[float]:
    """P(B = k) for k from `first` to `last`, outwards from the `mode`, which is the largest."""
    ways = math.lgamma(number + 1) - math.lgamma(mode + 1) - math.lgamma(number - mode + 1)
    top = math.exp(ways + mode * math.log(q) + (number - mode) * math.log1p(-q))
    odds = q / (1 - q)
    up, down = [top], [top]
    for k in range(mode, last):
        up.append(up[-1] * odds * (number - k) / (k + 1))
    for k in range(mode, first, -1):
        down.append(down[-1] * k / (odds * (number - k + 1)))
    return [*reversed(down[1:]), *up]
