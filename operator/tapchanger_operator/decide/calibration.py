"""How often answers are right and how well confidence says so, from counts of labelled answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tapchanger_operator.decide.sequential import rate_interval
from tapchanger_serving.contract.labels import ConfidenceBin, LabelWindow

_Z95: Final = 1.96
_ABSOLUTE: Final = math.sqrt(2.0 / math.pi)
"""The mean of |Z| of a standard normal Z."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Expected calibration error with where it is, about 95 %."""

    ece: float
    low: float
    high: float


def accuracy_interval(labelled: int, right: int, error: float = 0.05) -> tuple[float, float]:
    """Where the share of right answers is, at all times at once with a probability of `1 - error`; (0, 1) without labels."""
    low, high = rate_interval(labelled, labelled - right, error)
    return 1.0 - high, 1.0 - low


def calibration(bins: Sequence[ConfidenceBin]) -> Calibration | None:
    """The expected calibration error of a reliability table (Naeini, Cooper and Hauskrecht 2015); None without labels.

    It is a mean of absolute differences, whose estimate is too large on average (Bröcker 2012, "Estimating reliability and
    resolution of probability forecasts through decomposition of the empirical score"): a bin whose difference has a normal error
    of the standard deviation s adds at most `s * sqrt(2 / pi)`, and it does where the model is calibrated. So the lower bound
    takes that off as well, while the upper one doesn't, and both hold wherever the truth lies between.
    """
    labelled = sum(one.labelled for one in bins)
    if not labelled:
        return None
    ece = bias = variance = 0.0
    for one in bins:
        part = one.labelled / labelled
        smoothed = (one.right + 1.0) / (one.labelled + 2.0)
        spread = smoothed * (1.0 - smoothed) / one.labelled
        ece += part * abs(one.right - one.confidence) / one.labelled
        bias += part * _ABSOLUTE * math.sqrt(spread)
        variance += part**2 * spread
    reach = _Z95 * math.sqrt(variance)
    return Calibration(ece, max(0.0, ece - bias - reach), min(1.0, ece + reach))


def adjusted(labels: LabelWindow) -> float | None:
    """The accuracy if each kind of answer had been labelled as often as it occurs: poststratified (Holt and Smith 1979).

    It is right where, among answers of one kind, it is chance which are labelled. None where a kind that makes more than one
    percent of the answers has no labels.
    """
    texts = sum(one.texts for one in labels.answered)
    by_name = {one.name: one for one in labels.slices}
    total = weight = 0.0
    for kind in labels.answered:
        part, found = kind.texts / texts if texts else 0.0, by_name.get(f"answer={kind.label}")
        if found is None:
            if part > 0.01:
                return None
            continue
        total += part * found.right / found.labelled
        weight += part
    return total / weight if weight else None


def surprise(bins: Sequence[ConfidenceBin]) -> float:
    """By how many standard deviations more answers are right than their confidences say; 0 without labels."""
    right = sum(one.right for one in bins)
    expected = math.fsum(one.confidence for one in bins)
    means = ((one.labelled, min(1.0, max(0.0, one.confidence / one.labelled))) for one in bins)
    variance = math.fsum(number * mean * (1.0 - mean) for number, mean in means)
    return (right - expected) / math.sqrt(variance) if variance > 0 else 0.0


def differs(first: tuple[int, int], second: tuple[int, int]) -> float:
    """By how many standard deviations two shares, each (of, number), differ: the pooled test of two proportions."""
    (few, one), (many, other) = first, second
    if not one or not other:
        return 0.0
    pooled = (few + many) / (one + other)
    variance = pooled * (1.0 - pooled) * (1.0 / one + 1.0 / other)
    return abs(few / one - many / other) / math.sqrt(variance) if variance > 0 else 0.0
