"""Figures for people: how far the texts of late are from the reference. They make no verdict; the monitor does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

from tapchanger_operator.decide.drift.coarse import SMOOTHING, Coarse


def shares(counts: Sequence[float]) -> tuple[float, ...]:
    """Smoothed shares, all above 0."""
    whole = sum(counts) + SMOOTHING * len(counts)
    return tuple((count + SMOOTHING) / whole for count in counts)


def psi(coarse: Coarse, counts: Sequence[float]) -> float:
    """Population stability index: the sum of (q - p) log(q / p). By custom 0.1 is some change, 0.25 much."""
    return sum((q - p) * math.log(q / p) for p, q in zip(coarse.shares, shares(counts), strict=True))


def ks(coarse: Coarse, counts: Sequence[float]) -> float:
    """Kolmogorov and Smirnov's distance on the bins: the largest difference of the shares below a bound."""
    below = most = 0.0
    for p, q in zip(coarse.shares, shares(counts), strict=True):
        below += q - p
        most = max(most, abs(below))
    return most


def chi_square(coarse: Coarse, counts: Sequence[float]) -> tuple[float, float]:
    """Pearson's statistic of two samples, and its p-value (Wilson and Hilferty's cube root, 1931)."""
    one, other = float(coarse.total), float(sum(counts))
    if not one or not other:
        return 0.0, 1.0
    statistic, used = 0.0, 0
    for a, b in zip(coarse.counts, counts, strict=True):
        if a + b > 0:
            statistic += (a * math.sqrt(other / one) - b * math.sqrt(one / other)) ** 2 / (a + b)
            used += 1
    freedom = max(used - 1, 1)
    width = 2 / (9 * freedom)
    z = ((statistic / freedom) ** (1 / 3) - (1 - width)) / math.sqrt(width)
    return statistic, 1.0 - NormalDist().cdf(z)


def mmd(reference: Mapping[str, Coarse], counts: Mapping[str, Sequence[float]]) -> float | None:
    """Maximum mean discrepancy of the sketch without the part that chance alone would give (Gretton et al. 2012).

    The kernel of two texts is the share of coordinates in which they fall into the same bin. None without a sketch.
    """
    names = [name for name in reference if name in counts and sum(counts[name]) > 1]
    if not names:
        return None
    square = 0.0
    for name in names:
        p, n = shares(reference[name].counts), max(reference[name].total, 1)
        q, m = shares(counts[name]), max(sum(counts[name]), 1.0)
        by_chance = sum(a * (1 - a) / n + b * (1 - b) / m for a, b in zip(p, q, strict=True))
        square += sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) - by_chance
    return math.sqrt(max(square / len(names), 0.0))
