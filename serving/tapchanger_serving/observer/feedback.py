"""Takes users' scores and later labels: `POST /v1/feedback`, and events in OTLP logs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from tapchanger_serving.contract.feedback import MOST, Feedback, FeedbackAnswer, Refused
from tapchanger_serving.observer import labelling
from tapchanger_serving.observer.labelling import UnansweredError, UnknownError
from tapchanger_serving.observer.seen import Seen
from tapchanger_serving.observer.trust import EVERYTHING, Grant
from tapchanger_serving.observer.windows import Windows

_REMEMBERED: Final = 131_072


class FeedbackError(ValueError):
    """Feedback that is not taken. The message names the field, what was found and what to write."""


class ForbiddenError(Exception):
    """Feedback for a namespace that its sender may not speak for."""


@dataclass
class Taken:
    """What came of some feedback, by its place among what was sent: `counted`, `replaced` or `duplicate`; or why not."""

    fates: dict[int, str] = field(default_factory=dict)
    refused: dict[int, UnknownError | UnansweredError] = field(default_factory=dict)

    @property
    def unknown(self) -> list[int]:
        """What another observer may know, or this one a moment later."""
        return sorted(self.refused)

    def settle(self, place: int, fate: str) -> None:
        """It was counted after all."""
        self.refused.pop(place, None)
        self.fates[place] = fate

    def answer(self, items: Sequence[Feedback]) -> FeedbackAnswer:
        """In the contract's words."""
        fates = Counter(self.fates.values())
        refused = tuple(Refused(id=items[place].id, why=str(self.refused[place])) for place in self.unknown)
        return FeedbackAnswer(
            counted=fates["counted"] + fates["replaced"],
            duplicates=fates["duplicate"],
            replaced=fates["replaced"] or None,
            refused=refused or None,
        )


class Desk:
    """Counts each score once, of the last 131,072 ids at least, and of the labels of a text the latest."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self._seen = Seen(_REMEMBERED)
        self.refused: Counter[str] = Counter()
        """`unknown`, `unanswered`, `forbidden`: feedback that was not counted."""

    def take(
        self, items: Sequence[Feedback], now: float, grant: Grant = EVERYTHING, *, believing: bool = True
    ) -> Taken:
        """Count what can be counted; without `believing` no label whose answer only its sender knows.

        Raises ForbiddenError, and then nothing was.
        """
        for number, item in enumerate(items):
            if not grant.covers(item.namespace):
                self.refused["forbidden"] += len(items)
                which = f"{number}." if len(items) > 1 else ""
                raise ForbiddenError(f"{which}namespace: the credential is not for {item.namespace}")
        taken = Taken()
        for place, item in enumerate(items):
            self.again(taken, place, item, now, believing=believing)
        return taken

    def again(self, taken: Taken, place: int, item: Feedback, now: float, *, believing: bool = True) -> None:
        """Count one piece of feedback, or say in `taken` why not."""
        try:
            taken.settle(place, self._one(item if believing else item.model_copy(update={"answered": None}), now))
        except (UnknownError, UnansweredError) as why:
            taken.refused[place] = why

    def give_up(self, taken: Taken) -> None:
        """Nothing more is tried for what was refused."""
        for why in taken.refused.values():
            self.refused["unknown" if isinstance(why, UnknownError) else "unanswered"] += 1

    def _one(self, item: Feedback, now: float) -> str:
        key, answer = labelling.found(self._windows, item)
        fates = set()
        if item.truth is not None:
            of, found = labelling.judged(self._windows, key, item, answer, now)
            fates.add(labelling.count(self._windows, key, of, item.truth, found))
        if item.score is not None:
            if self._seen.first_time(f"{item.namespace}/{item.deployment}/{item.id}".encode()):
                self._windows.add_score(key, now, item.score)
                fates.add("counted")
            else:
                fates.add("duplicate")
        return next(fate for fate in ("replaced", "counted", "duplicate") if fate in fates)


def parsed(body: str | bytes) -> list[Feedback]:
    """The feedback in a request's body. Raises FeedbackError."""
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise FeedbackError("the body is no JSON; write an object or a list of them") from None
    entries = found if isinstance(found, list) else [found]
    if not 1 <= len(entries) <= MOST:
        raise FeedbackError(f"found {len(entries)} entries; send 1 to {MOST} at a time")
    return [one(entry, [str(number)] if isinstance(found, list) else []) for number, entry in enumerate(entries)]


def one(entry: Any, place: Sequence[str] = ()) -> Feedback:
    """One piece of feedback from JSON values. Raises FeedbackError."""
    try:
        return Feedback.model_validate(entry)
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        field_ = ".".join([*place, *(str(part) for part in first["loc"])]) or "the body"
        if first["type"] == "value_error":
            raise FeedbackError(f"{field_}: {first['msg'].removeprefix('Value error, ')}") from None
        raise FeedbackError(f"{field_}: found {str(first['input'])[:64]!r}: {first['msg']}") from None
