"""``status.quality``: how often answers are right, as far as labels have come, and what these labels can't tell."""

from __future__ import annotations

from pydantic import Field

from tapchanger_operator.api.base import StatusModel


class SliceQuality(StatusModel):
    """Labelled answers of one kind: how many, which share was right, and where that share is (95 %, at all times)."""

    name: str
    labelled: int
    accuracy: float
    low: float
    high: float


class RevisionQuality(StatusModel):
    """The same of a revision that serves beside the stable one: the canary, or an arm of the experiment."""

    revision: str
    role: str
    labelled: int
    share: float | None = None
    accuracy: float | None = None
    low: float = 0.0
    high: float = 1.0


class QualityStatus(StatusModel):
    """What labels say of the stable revision's answers of the last seven days.

    `share` is the part of the answers that has been labelled, by the servers' sample. `accuracy` is that of the labelled answers,
    with an interval that holds at all times (95 %). `adjusted` weighs what was answered as it occurs, where labels came for some
    answers more often than for others. `ece` is the expected calibration error over 15 bins of confidence, and `brier` the mean
    squared difference of confidence and outcome. `warnings` say why the labels may be no fair sample.
    """

    revision: str
    message: str = ""
    labelled: int = 0
    share: float | None = None
    accuracy: float | None = None
    low: float = 0.0
    high: float = 1.0
    adjusted: float | None = None
    ece: float | None = None
    ece_low: float | None = None
    ece_high: float | None = None
    brier: float | None = None
    slices: list[SliceQuality] = Field(default=[], description="Those with the least accuracy.")
    others: list[RevisionQuality] = []
    warnings: list[str] = []
    at: str
