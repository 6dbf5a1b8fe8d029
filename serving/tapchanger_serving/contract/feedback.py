"""What users thought of an answer: `POST /v1/feedback` on :data:`names.OBSERVER_API_PORT`.

The body is one :class:`Feedback` or a list of up to :data:`MOST` as JSON; the answer is a :class:`FeedbackAnswer`. All or
nothing is taken: 400 says which field is wrong and what to write, 404 that the revision has answered nothing of late.
"""

from __future__ import annotations

from typing import Final

from pydantic import Field

from tapchanger_serving.contract.base import Message

MOST: Final = 1000
"""Largest number of scores in one request."""


class Feedback(Message):
    """A score from 0 (bad) to 1 (good) for one answer.

    `revision` is the one that the answer named in its `x-tapchanger-revision` header or metadata. `id` says which answer is
    meant (a trace id, a request id): the same id for the same deployment counts once.
    """

    namespace: str = Field(min_length=1, max_length=253)
    deployment: str = Field(min_length=1, max_length=253)
    revision: str = Field(min_length=1, max_length=253)
    id: str = Field(min_length=1, max_length=128)
    score: float = Field(ge=0, le=1, allow_inf_nan=False)


class FeedbackAnswer(Message):
    """How many scores were counted, and how many were known already."""

    counted: int
    duplicates: int
