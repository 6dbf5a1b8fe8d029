"""What labels that came later say of a revision's answers: a part of :mod:`tapchanger_serving.contract.windows`."""

from __future__ import annotations

from typing import Final

from tapchanger_serving.contract.base import Message

BINS: Final = 15
"""Bins of confidence, of equal width from 0 to 1."""
STEP: Final = 60
"""Seconds over which labels are counted, by the time of the answer; what is older than the fine steps, over an hour."""
COARSE: Final = 3_600
KEPT: Final = 7 * 86_400
"""Seconds after an answer for which its label counts."""
OTHER: Final = "(other)"
"""Stands for labels beyond the first ones that were seen."""


class LabelledSlice(Message):
    """Labelled answers of one kind: how many, and how many were right.

    `name` is `answer=LABEL` (what was answered), `label=LABEL` (the truth), `tokens<=64` (at most 64 and more than 32) or
    what feedback named, `source=tweets`.
    """

    name: str
    labelled: int
    right: int


class AnsweredLabel(Message):
    """Texts that were answered with `label`, by the servers' spans (a sample), and how many of these have been labelled."""

    label: str
    texts: int
    labelled: int


class ConfidenceBin(Message):
    """Labelled answers whose confidence fell into one of :data:`BINS` bins: how many, how many were right, and the sums of
    their confidences.
    """

    number: int
    labelled: int
    right: int
    confidence: float


class LabelWindow(Message):
    """Answers that ended between `since` and `until` and have been labelled by now.

    `corrections` of them were labelled by a person who changed the answer. `sure` have a confidence; `brier` is the sum over
    these of (1 if right, else 0, less the confidence) squared, and `bins` is their reliability table. `answered` says how
    labels are spread over the answers: what only one kind of answer gets is no sample of all of them.
    """

    labelled: int = 0
    right: int = 0
    corrections: int = 0
    sure: int = 0
    brier: float = 0.0
    slices: tuple[LabelledSlice, ...] = ()
    answered: tuple[AnsweredLabel, ...] = ()
    bins: tuple[ConfidenceBin, ...] = ()
