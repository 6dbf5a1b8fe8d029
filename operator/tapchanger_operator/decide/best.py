"""The chance of each arm to be the best one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from tapchanger_operator.decide.bounded import Tally

_EDGE: Final = 1e-12
_NODES: Final = 96


def probability_of_best(tallies: Sequence[Tally]) -> list[float]:
    """The chance of each arm to have the highest mean, from the posteriors Beta(1 + sum, 1 + count - sum).

    It is the integral of an arm's density times the others' distribution functions, by the trapezoid rule on points laid
    around every posterior: no randomness, and the same for the same figures. It is a figure to look at, not a test.
    """
    shapes = [(1.0 + t.total, 1.0 + max(0.0, t.count - t.total)) for t in tallies]
    points = sorted({point for shape in shapes for point in _points_around(*shape)})
    densities = [_densities(a, b, points) for a, b in shapes]
    below = [_cumulated(points, density) for density in densities]
    chances = []
    for arm, density in enumerate(densities):
        heights = [
            height * math.prod(others[at] for number, others in enumerate(below) if number != arm)
            for at, height in enumerate(density)
        ]
        chances.append(_cumulated(points, heights, norm=False)[-1] / _cumulated(points, density, norm=False)[-1])
    whole = sum(chances)
    return [chance / whole for chance in chances]


def _points_around(a: float, b: float) -> list[float]:
    """Points that cover a Beta distribution: dense within eight standard deviations, and the ends."""
    mean = a / (a + b)
    reach = 8.0 * math.sqrt(a * b / ((a + b) ** 2 * (a + b + 1.0)))
    low, high = max(0.0, mean - reach), min(1.0, mean + reach)
    return [0.0, 1.0, *(low + (high - low) * step / _NODES for step in range(_NODES + 1))]


def _densities(a: float, b: float, points: Sequence[float]) -> list[float]:
    """The Beta density at `points`, up to a factor."""
    top = (a - 1.0) / (a + b - 2.0) if a + b > 2.0 else 0.5

    def log_density(x: float) -> float:
        inner = min(1.0 - _EDGE, max(_EDGE, x))
        return (a - 1.0) * math.log(inner) + (b - 1.0) * math.log1p(-inner)

    peak = log_density(top)
    return [math.exp(min(0.0, log_density(x) - peak)) for x in points]


def _cumulated(points: Sequence[float], heights: Sequence[float], *, norm: bool = True) -> list[float]:
    sums = [0.0]
    for (left, right), (low, high) in zip(pairwise(points), pairwise(heights), strict=True):
        sums.append(sums[-1] + (right - left) * (low + high) / 2.0)
    return [value / sums[-1] for value in sums] if norm else sums
