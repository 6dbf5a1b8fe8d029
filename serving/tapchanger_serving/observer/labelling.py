"""Lays labels that came later beside what was answered."""

from __future__ import annotations

import json
from typing import Final

from tapchanger_serving.contract import names
from tapchanger_serving.contract.feedback import KNOWN_TEXTS, Feedback
from tapchanger_serving.observer.answers import Answer, Rows, SeveralError
from tapchanger_serving.observer.breakdown import length_class
from tapchanger_serving.observer.keys import Key
from tapchanger_serving.observer.labels import Judged
from tapchanger_serving.observer.memory import Name
from tapchanger_serving.observer.scores import Tally
from tapchanger_serving.observer.spans import Span
from tapchanger_serving.observer.windows import Windows

LONGEST_LABEL: Final = 128


class UnknownError(LookupError):
    """Feedback on a request, or a revision, of which nothing is remembered. Another observer, or a moment later this one, may."""


class UnansweredError(LookupError):
    """A label for a text whose answer is not known."""


def read(text: str) -> Rows:
    """The attribute `tapchanger.answered`. Raises ValueError with a plain message for anything else."""
    try:
        found = [(label, score) for label, score in json.loads(text)]
    except (ValueError, TypeError, RecursionError):
        raise ValueError(f"{names.ATTR_ANSWERED}: not a list of pairs") from None
    if len(found) > KNOWN_TEXTS or not all(_is_answer(label, score) for label, score in found):
        raise ValueError(
            f"{names.ATTR_ANSWERED}: expected at most {KNOWN_TEXTS} pairs of a label and a score from 0 to 1"
        )
    return tuple((label[:LONGEST_LABEL], float(score)) for label, score in found)


def _is_answer(label: object, score: object) -> bool:
    number = isinstance(score, int | float) and not isinstance(score, bool)
    return isinstance(label, str) and label != "" and number and 0.0 <= float(score) <= 1.0  # type: ignore[arg-type]


def answered(windows: Windows, key: Key, span: Span, end: float) -> None:
    """Remember what a server's span says that it answered. Raises ValueError with a plain message for what can't be read."""
    told = span.attributes.get(names.ATTR_ANSWERED)
    if told is None:
        return
    rows = read(told)
    tokens = span.attributes.get(names.ATTR_TOKENS, "")
    kind = length_class(max(1, int(tokens[:9]))) + 1 if len(rows) == 1 and tokens.isdigit() else 0
    identity = span.trace_id + (span.parent_id or span.span_id)
    windows.memory.answers.answered(key, identity, end, kind, rows)
    windows.of(key).labels.tell(end, (label for label, _ in rows))


def found(windows: Windows, item: Feedback) -> tuple[Key, Answer | None]:
    """Of which revision feedback is, and what is remembered of the request.

    Raises UnknownError where it isn't known, UnansweredError where it says too little or something else than was told.
    """
    try:
        answer = windows.memory.answers.recall(item.namespace, item.deployment, item.id)
    except SeveralError as several:
        raise UnansweredError(f"id: {several}") from None
    where = f"{item.namespace}/{item.deployment}"
    if answer is None and item.revision is None:
        raise UnknownError(
            f"id: no request of {where} with the id {item.id[:64]!r} is remembered; send its trace id or x-request-id within"
            " the observer's memory, or add the revision that the answer named in x-tapchanger-revision"
        )
    if answer and item.revision not in (None, answer.key.revision):
        raise UnansweredError(f"revision: the request was answered by {answer.key.revision}, not by {item.revision}")
    key = answer.key if answer else Key(item.namespace, item.deployment, str(item.revision))
    if not windows.knows(key):
        message = "write what the answer's x-tapchanger-revision said, while its requests are remembered"
        raise UnknownError(f"revision: {key.revision} of {where} answered nothing; {message}")
    return key, answer


def judged(
    windows: Windows, key: Key, item: Feedback, answer: Answer | None, now: float
) -> tuple[tuple[Name, ...], Judged]:
    """A label beside the answer, to be counted, and by what it is known: a label that came before its request's span is known
    by the id alone. Raises UnansweredError where the answer isn't known.
    """
    rows = answer.rows if answer else ()
    if len(rows) > 1 and item.index is None:
        raise UnansweredError(f"index: the request had {len(rows)} texts or more; say which is meant, from 0")
    index = item.index or 0
    told = index < len(rows)
    if told:
        label, confidence = rows[index]
    elif item.answered is None:
        why = f"it had {len(rows)} texts" if rows else "its server's span, of a sample of the requests, did not come"
        raise UnansweredError(
            f"answered: what the request was answered is not known here, since {why}; send answered, and confidence"
        )
    else:
        label, confidence = item.answered, item.confidence  # type: ignore[assignment]
    labels, truth = windows.of(key).labels, str(item.truth)
    known, true = labels.word(label), labels.word(truth)
    tokens = (f"tokens<={2 ** (answer.tokens - 1)}",) if answer and answer.tokens else ()
    one = Judged(
        at=answer.end if answer else int(now),
        right=label == truth,
        correction=item.correction is not None,
        confidence=confidence,
        answered=known,
        told=told,
        slices=(f"answer={known}", f"label={true}", *tokens, *labels.slices(item.slices.items())),
        came=now,
    )
    by_id = (f"{key.namespace}/{key.deployment}/{item.id}", index)
    return ((answer.identity, index), by_id) if answer else (by_id,), one


def count(windows: Windows, key: Key, of: tuple[Name, ...], truth: str, one: Judged) -> str:
    """Count a label: `counted`, `replaced` where it takes the place of an earlier one, or `duplicate`."""
    name = of[0]
    before = next(filter(None, map(windows.memory.given, of)), None)
    series = windows.of(key)
    if before is None:
        series.labels.add(one)
        series.labels_came.add(one.came, float(one.right))
        windows.memory.give(name, (key, truth, one))
        return "counted"
    old_key, said, old = before
    if said == truth and old_key == key and set(old.slices) == set(one.slices):
        return "duplicate"
    # What came in a step of time stays there, so that who has counted the step already counts it once.
    one = one._replace(came=old.came)
    if windows.knows(old_key):
        windows.of(old_key).labels.take_out(old)
        _came(windows, old_key, old, -1)
    series.labels.add(one)
    _came(windows, key, one, 1)
    windows.memory.give(name, (key, truth, one))
    return "replaced"


def _came(windows: Windows, key: Key, one: Judged, sign: int) -> None:
    right, came = sign * int(one.right), windows.of(key).labels_came
    if came.knows(one.came):
        came.change(one.came, Tally(sign, right, right))
