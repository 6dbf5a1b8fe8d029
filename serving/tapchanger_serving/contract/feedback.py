"""What users thought of an answer, and what it should have been: `POST /v1/feedback` on :data:`names.OBSERVER_API_PORT`.

The body is one :class:`Feedback` or a list of up to :data:`MOST` as JSON; the answer is a :class:`FeedbackAnswer`. 400 says
which field is wrong and what to write, and then nothing of the list was taken. Otherwise each entry counts for itself: those
that can't be counted come back in `refused` with the reason. Where that is all of them the status is 404 (nobody knows the
request or the revision) or 422 (the answer that is meant is not known), with the first one's reason.

The same can be said in OTLP logs (`LogsService/Export`, `POST /v1/logs`): a record with the event name :data:`EVENT`, the
trace id of the request, and attributes. :data:`EVALUATION` of OpenTelemetry's conventions for generative AI is read as a score.
"""

from __future__ import annotations

from typing import Final, Self

from pydantic import Field, model_validator

from tapchanger_serving.contract.base import Message

MOST: Final = 1000
"""Largest number of entries in one request."""
MOST_SLICES: Final = 8
"""Slices that one entry may name."""
RESERVED: Final = frozenset({"answer", "label", "tokens"})
"""Names of slices that are counted in any case."""
KNOWN_TEXTS: Final = 16
"""Of one request so many texts' answers are remembered, the first ones."""

EVENT: Final = "tapchanger.feedback"
EVALUATION: Final = "gen_ai.evaluation.result"
ATTR: Final = "tapchanger.feedback."
"""Attributes of :data:`EVENT` are this and a field's name: `id` (where the trace id is not meant), `label`, `correction`,
`score`, `answered`, `confidence`, `index`; and `slice.NAME`. Namespace, deployment and revision are as on spans."""


class Feedback(Message):
    """What is known of one answer by now.

    `id` says which answer is meant: the request's trace id (32 hexadecimal digits) or its `x-request-id`. The observer
    remembers which revision answered it, and what, for as long as it is among the last ones; `revision`, which the
    answer named in its `x-tapchanger-revision` header or metadata, is needed for requests that it has forgotten.

    `score` goes from 0 (bad) to 1 (good). `label` is the true label of the text, `correction` a true label that a person
    put in the place of the answer: both say whether the answer was right, and the latest for an id counts. `index` says
    which text of a request with several is meant, from 0. What was answered is known of requests whose server span came, a
    sample; of others `answered` and `confidence` say it. `slices` are what accuracy is told apart by, such as
    `{"source": "tweets"}`.
    """

    namespace: str = Field(min_length=1, max_length=253)
    deployment: str = Field(min_length=1, max_length=253)
    revision: str | None = Field(default=None, min_length=1, max_length=253)
    id: str = Field(min_length=1, max_length=128)
    index: int | None = Field(default=None, ge=0, lt=65_536)
    score: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    label: str | None = Field(default=None, min_length=1, max_length=128)
    correction: str | None = Field(default=None, min_length=1, max_length=128)
    answered: str | None = Field(default=None, min_length=1, max_length=128)
    confidence: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    slices: dict[str, str] = Field(default={}, max_length=MOST_SLICES)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.label is not None and self.correction is not None:
            raise ValueError("label and correction are the same thing from two sources; send one of them")
        if self.score is None and self.truth is None:
            raise ValueError("nothing is said of the answer; send score, label or correction")
        if self.score is not None and self.revision is None and self.index is not None and self.truth is None:
            raise ValueError("a score is for a whole request; leave index out")
        for name, value in self.slices.items():
            if not 1 <= len(name) <= 40 or "=" in name or not 1 <= len(value) <= 100 or name in RESERVED:
                reserved = ", ".join(sorted(RESERVED))
                raise ValueError(
                    f"slices: found {name[:40]!r}; write a name of 1 to 40 characters without '=' that is none of {reserved},"
                    " and a value of 1 to 100"
                )
        return self

    @property
    def truth(self) -> str | None:
        """The true label, from whichever source."""
        return self.label if self.correction is None else self.correction


class Refused(Message):
    """An entry that was not counted, by its id, and why."""

    id: str
    why: str


class FeedbackAnswer(Message):
    """How many entries were counted, and how many were known already; `replaced` labels took the place of earlier ones."""

    counted: int
    duplicates: int
    replaced: int | None = None
    refused: tuple[Refused, ...] | None = None
