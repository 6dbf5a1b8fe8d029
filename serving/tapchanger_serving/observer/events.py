"""Feedback in OTLP logs: which records are meant, and what they say (see :mod:`tapchanger_serving.contract.feedback`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from tapchanger_serving.contract import feedback, names
from tapchanger_serving.contract.feedback import Feedback
from tapchanger_serving.observer.feedback import FeedbackError, one
from tapchanger_serving.observer.ingest import Result
from tapchanger_serving.observer.intake import Intake, Place
from tapchanger_serving.observer.reception import Reception
from tapchanger_serving.observer.trust import Grant

Value = str | int | float | bool
MOST: Final = 1000
"""Feedback that is taken of one payload."""
_EVENT_NAME: Final = "event.name"
_SLICE: Final = f"{feedback.ATTR}slice."
_FIELDS: Final = {
    "id": str,
    "label": str,
    "correction": str,
    "answered": str,
    "score": float,
    "confidence": float,
    "index": int,
}
_WHERE: Final = {
    "namespace": names.ATTR_NAMESPACE,
    "deployment": names.ATTR_DEPLOYMENT,
    "revision": names.ATTR_REVISION,
}
_VALUE: Final = "gen_ai.evaluation.score.value"
_VERDICT: Final = "gen_ai.evaluation.score.label"
_RESPONSE: Final = "gen_ai.response.id"
GOOD: Final = frozenset({"pass", "passed", "correct", "good", "yes", "true", "relevant", "thumbs_up"})
BAD: Final = frozenset({"fail", "failed", "incorrect", "bad", "no", "false", "not_relevant", "thumbs_down"})


class LogRecord(NamedTuple):
    """A record as far as it is read: attributes are the resource's overlaid with its own, scalars only."""

    event: str
    trace_id: bytes
    attributes: Mapping[str, Value]


def read(record: LogRecord) -> Feedback | None:
    """What a record says of an answer; None for one that is about something else. Raises FeedbackError."""
    attributes = record.attributes
    event = record.event or attributes.get(_EVENT_NAME)
    if event not in (feedback.EVENT, feedback.EVALUATION):
        return None
    if event == feedback.EVALUATION and (names.ATTR_DEPLOYMENT not in attributes or "error.type" in attributes):
        return None
    entry: dict[str, Any] = {field: str(attributes[name]) for field, name in _WHERE.items() if name in attributes}
    if record.trace_id:
        entry["id"] = record.trace_id.hex()
    if event == feedback.EVALUATION:
        return one({"id": str(attributes.get(_RESPONSE, "")), **entry, "score": _score(attributes)})
    for field, kind in _FIELDS.items():
        value = attributes.get(f"{feedback.ATTR}{field}")
        if value is not None:
            entry[field] = str(value) if kind is str else value
    slices = {name.removeprefix(_SLICE): str(value) for name, value in attributes.items() if name.startswith(_SLICE)}
    return one({**entry, "slices": slices} if slices else entry)


def _score(attributes: Mapping[str, Value]) -> float:
    value, verdict = attributes.get(_VALUE), str(attributes.get(_VERDICT, "")).lower()
    if isinstance(value, int | float) and 0 <= value <= 1:
        return float(value)
    if value is None and verdict in GOOD | BAD:
        return float(verdict in GOOD)
    found = f"{str(value)[:32]!r} with the label {verdict[:32]!r}"
    raise FeedbackError(f"{_VALUE}: found {found}; send a value from 0 to 1, or a label such as pass or fail")


class Events:
    """Takes feedback out of payloads of logs. Records about other things are ignored: a collector may send all it has."""

    def __init__(self, intake: Intake, reception: Reception) -> None:
        self._intake = intake
        self._reception = reception

    async def count(
        self,
        place: Place,
        _: str,
        decode: Callable[[], Iterable[LogRecord]],
        authorization: str | None,
    ) -> Callable[[], Awaitable[Result]]:
        """Decodes a payload when its turn comes, and gives back what takes its feedback, which may need a moment.

        Raises what `decode` raises; then none counts.
        """
        records, items, faults = await self._intake.in_turn(lambda: told(decode(), place.grant))
        grant = place.grant

        async def finish() -> Result:
            taken = await self._reception.take(items, grant, authorization) if items else None
            whys = faults + ([str(taken.refused[place]) for place in taken.unknown] if taken else [])
            return Result(records, len(whys), whys[0] if whys else "")

        return finish


def told(records: Iterable[LogRecord], grant: Grant) -> tuple[int, list[Feedback], list[str]]:
    """How many records there are, the feedback in them that `grant` covers, and what is wrong with the rest."""
    items: list[Feedback] = []
    faults: list[str] = []
    number = 0
    for record in records:
        number += 1
        try:
            found = read(record)
        except FeedbackError as bad:
            faults.append(str(bad))
            continue
        if found is None:
            continue
        if not grant.covers(found.namespace):
            faults.append(f"namespace: the credential is not for {found.namespace}")
        elif len(items) >= MOST:
            faults.append(f"more than {MOST} pieces of feedback in one payload; send smaller batches")
        else:
            items.append(found)
    return number, items, faults
