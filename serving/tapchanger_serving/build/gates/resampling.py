"""Intervals: Wilson's for shares, percentiles of a seeded bootstrap over rows for everything else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tapchanger_serving.contract.evidence import Interval

Doubles = npt.NDArray[np.float64]
Statistic = Callable[[Doubles], Doubles]
"""Weights of the rows `[resamples, rows]` → one figure per resample, NaN where it is not defined.

A weight says how often a resample holds the row, so that all resamples are computed in a few matrix products.
"""

RESAMPLES = 400
_SEED = 20_260_101
_Z = 1.959963984540054
_TAILS = (2.5, 97.5)


def figure(statistic: Statistic, rows: int) -> float:
    """The statistic of the rows as they are."""
    return float(statistic(np.ones((1, rows)))[0])


def draw(rows: int, stream: int = 0) -> Doubles:
    """Weights `[resamples, rows]`: rows drawn with replacement, the same for the same `rows` and `stream`."""
    random = np.random.default_rng([_SEED, stream])
    return random.multinomial(rows, np.full(rows, 1 / rows), size=RESAMPLES).astype(np.float64)


def bootstrap(statistic: Statistic, rows: int) -> Interval | None:
    """The percentile bootstrap (Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13).

    A difference of two models is one statistic of the rows, and so is paired.
    """
    return percentiles(statistic(draw(rows)))


def percentiles(values: Doubles) -> Interval | None:
    """The middle 95 % of resampled figures; None where most of them are not defined."""
    values = values[np.isfinite(values)]
    if 2 * len(values) <= RESAMPLES:
        return None
    low, high = np.percentile(values, _TAILS)
    return Interval(low=round(float(low), 6), high=round(float(high), 6), method="bootstrap")


def wilson(share: float, rows: int) -> Interval:
    """The score interval of a share (Wilson 1927, Probable Inference, the Law of Succession, and Statistical Inference)."""
    spread = _Z**2 / rows
    centre = (share + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * np.sqrt(share * (1 - share) / rows + spread / (4 * rows))
    return Interval(
        low=round(max(float(centre - half), 0.0), 6), high=round(min(float(centre + half), 1.0), 6), method="wilson"
    )
