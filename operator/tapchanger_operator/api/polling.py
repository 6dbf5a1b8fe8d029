"""What status remembers of the polling of a model's address."""

from __future__ import annotations

from pydantic import Field

from tapchanger_operator.api.base import StatusModel


class PollStatus(StatusModel):
    """The last time that the model's address was asked for new content, or since when it will be."""

    at: str
    problem: str = Field(default="", description="Why it gave no answer; empty where it did.")
