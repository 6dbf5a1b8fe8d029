"""Takes users' scores: `POST /v1/feedback`."""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic import ValidationError

from tapchanger_serving.contract.feedback import MOST, Feedback, FeedbackAnswer
from tapchanger_serving.observer.seen import Seen
from tapchanger_serving.observer.trust import EVERYTHING, Grant
from tapchanger_serving.observer.windows import Key, Windows

_REMEMBERED: Final = 131_072


class FeedbackError(ValueError):
    """Scores that are not taken. The message names the field, what was found and what to write."""


class ForbiddenError(Exception):
    """Scores for a namespace that their sender may not speak for."""


class UnknownRevisionError(LookupError):
    """Scores for a revision that answered nothing as far as is remembered."""


class Desk:
    """Counts each score once: of the last 131,072 ids at least, each is known again."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self._seen = Seen(_REMEMBERED)

    def take(self, body: str | bytes, now: float, grant: Grant = EVERYTHING) -> FeedbackAnswer:
        """Count all scores of a request, or none. Raises FeedbackError, ForbiddenError and UnknownRevisionError."""
        items = _parsed(body)
        for number, item in enumerate(items):
            if not grant.covers(item.namespace):
                raise ForbiddenError(f"{_place(number, items)}namespace: the credential is not for {item.namespace}")
            if not self._windows.knows(_key(item)):
                where = f"{item.namespace}/{item.deployment}"
                message = "write what the answer's x-tapchanger-revision said, while its requests are remembered"
                raise UnknownRevisionError(
                    f"{_place(number, items)}revision: {item.revision} of {where} answered nothing; {message}"
                )
        counted = 0
        for item in items:
            if self._seen.first_time(f"{item.namespace}/{item.deployment}/{item.id}".encode()):
                self._windows.add_score(_key(item), now, item.score)
                counted += 1
        return FeedbackAnswer(counted=counted, duplicates=len(items) - counted)


def _key(item: Feedback) -> Key:
    return Key(item.namespace, item.deployment, item.revision)


def _place(number: int, items: list[Feedback]) -> str:
    return f"{number}." if len(items) > 1 else ""


def _parsed(body: str | bytes) -> list[Feedback]:
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise FeedbackError("the body is no JSON; write an object or a list of them") from None
    entries = found if isinstance(found, list) else [found]
    if not 1 <= len(entries) <= MOST:
        raise FeedbackError(f"found {len(entries)} scores; send 1 to {MOST} at a time")
    items = []
    for number, entry in enumerate(entries):
        try:
            items.append(Feedback.model_validate(entry))
        except ValidationError as problem:
            first = problem.errors(include_url=False)[0]
            place = [str(number)] if isinstance(found, list) else []
            field = ".".join([*place, *(str(part) for part in first["loc"])]) or "the body"
            raise FeedbackError(f"{field}: found {str(first['input'])[:64]!r}: {first['msg']}") from None
    return items
