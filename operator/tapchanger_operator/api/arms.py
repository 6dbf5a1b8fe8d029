"""Parts of ``status.arms`` and ``status.experiment``: what is known of each arm, and who has which slots."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tapchanger_operator.api.base import StatusModel


class SlotRun(StatusModel):
    """Slots (of 1000) from `from` to `to`, which is not included, that belong to an arm."""

    arm: str
    start: int = Field(alias="from")
    end: int = Field(alias="to")


class DifferenceStatus(StatusModel):
    """An arm's mean less control's, with an interval that holds at all times."""

    estimate: float
    low: float
    high: float


class ArmFigure(StatusModel):
    """One metric of an arm: the mean (a share or a score, more is better) with an interval that holds at all times.

    `total` and `spread` are the memory from which the next pass goes on.
    """

    metric: str
    count: int = 0
    mean: float | None = None
    low: float = 0.0
    high: float = 1.0
    total: float = 0.0
    spread: float = 0.0


class ArmNext(StatusModel):
    """A revision that takes over an arm as soon as its servers are ready."""

    revision: str
    build: str
    uri: str
    created_at: str
    available_at: str | None = None


class ExperimentStatus(StatusModel):
    """What the arms' figures say. They count from `since`: they start anew when the arms or their weights change.

    `key` is the hash of what was asked, `compared` of what serves. `counted_until` is where counting goes on.
    """

    verdict: Literal["Running", "Winner", "NoDifference", "Inconclusive"] = "Running"
    winner: str | None = None
    applied: bool = Field(default=False, description="Whether the winner gets all requests.")
    metric: str
    message: str = ""
    since: str
    counted_until: str
    key: str
    compared: str
    slots: list[SlotRun] = []
