"""How often the model is right on traffic without labels, estimated from how sure it is.

Where confidence and accuracy are known on the same labelled texts of the reference, the change of the mean confidence is
taken for the change of the accuracy (Guillory et al. 2021, "Predicting with confidence on unseen distributions"). It holds
as long as confidence means the same on the new texts, which nobody can tell without labels once the texts themselves are
others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from tapchanger_serving.contract.drift import Reference

NORMAL: Final = 1.96
FEWEST: Final = 100
"""Texts of late and of the reference that an estimate needs."""
FURTHEST: Final = 0.1
"""A change of the mean confidence beyond this is more than the method was shown to bear."""


@dataclass(frozen=True)
class Sureness:
    """Confidences of late: number (it may be a weighted one), sum and sum of squares."""

    texts: float = 0.0
    total: float = 0.0
    squares: float = 0.0


@dataclass(frozen=True)
class Estimate:
    """Accuracy with its 95 % interval, whether to rely on it, and why not."""

    value: float
    low: float
    high: float
    reliable: bool
    why: str = ""


def estimate(reference: Reference, sure: Sureness, *, inputs_moved: bool) -> Estimate | None:
    """None where the reference has no labels, or there are too few texts."""
    if reference.accuracy is None or reference.confidence is None or reference.gap is None:
        return None
    if sure.texts < FEWEST or reference.labelled < FEWEST:
        return None
    mean = sure.total / sure.texts
    variance = max(sure.squares / sure.texts - mean * mean, 0.0)
    change = mean - reference.confidence
    # The reference's accuracy minus its confidence is the mean of a difference on the same texts.
    error = math.sqrt(variance / sure.texts + reference.gap**2 / reference.labelled)
    value = min(max(reference.accuracy + change, 0.0), 1.0)
    why = ""
    if inputs_moved:
        why = "the texts themselves have changed, and what confidence means on others is not known"
    elif abs(change) > FURTHEST:
        why = f"the mean confidence has changed by {abs(change):.2f}, more than such an estimate can bear"
    low, high = max(value - NORMAL * error, 0.0), min(value + NORMAL * error, 1.0)
    return Estimate(value, low, high, not why, why)
