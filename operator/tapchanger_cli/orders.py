"""What an order means just now, how it is written, and what the operator answers to it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tapchanger_cli.errors import CliError
from tapchanger_cli.subject import Subject
from tapchanger_cli.words import printable
from tapchanger_operator.api import controls
from tapchanger_operator.api.base import timestamp
from tapchanger_operator.api.controls import Command, Order
from tapchanger_operator.api.retraining import RetrainingAnswer
from tapchanger_operator.api.status import CanaryStatus, ControlStatus

Patch = dict[str, str | None]
"""Annotations to merge; None removes one."""

_LONGEST_REASON: Final = 1000


def meant(order: Order, subject: Subject, revision: str | None, reason: str) -> Command:
    """The order for the revision (and step) that it must mean now.

    `revision` is what a user wrote: all of a revision's name or the first four digits and more. Raises CliError with what is
    there instead where nothing fits.
    """
    candidates = _MEANT[order](subject)
    if not candidates:
        raise CliError(f"{subject.name} has {_NOTHING[order]}: {subject.sentence}", _instead(order, subject))
    if order == "retry" and revision is None and subject.rejection is None:
        raise CliError(
            f"what the spec of {subject.name} asks for was not rolled back; {', '.join(candidates)} was",
            f"write --revision {candidates[0]} to have it tried when the spec asks for it again",
        )
    fitting = [found for found in candidates if revision is None or found.startswith(revision)]
    if not fitting:
        names = " or ".join(candidates)
        raise CliError(
            f"{order} can mean {names} of {subject.name}, not {revision}", f"write --revision {candidates[0]}"
        )
    return Command(order, fitting[0], _step(order, subject), reason)


def reason(words: str, now: float) -> str:
    """A user's reason on one line; without one, words that make this order differ from the one before."""
    plain = printable(" ".join(words.split()))[:_LONGEST_REASON].strip()
    return plain or f"by tapchanger at {timestamp(now)[:19]}Z"


def value(command: Command, subject: Subject, now: float) -> str:
    """The annotation's value, other than any that was given before, so that it is carried out."""
    text = controls.render(command)
    given = {answer.value for answer in subject.status.controls if answer.order == command.order}
    given.add(subject.annotations.get(controls.annotation(command.order), ""))
    return f"{text} (again, {timestamp(now)})" if text in given else text


def unlike(text: str, subject: Subject, annotation: str, now: float) -> str:
    """An order about no revision, other than the one that stands, so that it is carried out."""
    return f"{text} (again, {timestamp(now)})" if subject.annotations.get(annotation) == text else text


def retrained(subject: Subject, text: str) -> RetrainingAnswer | None:
    """What the operator says to this very order to retrain; None while it has not."""
    answers = subject.status.retraining.answers if subject.status.retraining else []
    return next((found for found in answers if found.order == "retrain" and found.value == text), None)


def patch(annotation: str, text: str | None, by: str | None) -> Patch:
    """Sets an annotation and who does so in one write, or removes both. An unknown name removes that of an earlier order."""
    return {annotation: text, annotation + controls.BY_SUFFIX: by if text is not None else None}


def answer(subject: Subject, order: Order, text: str) -> ControlStatus | None:
    """What the operator says to this very order; None while it has not."""
    given = (found for found in subject.status.controls if found.order == order and found.value == text)
    return next(given, None)


def _canary(subject: Subject) -> list[str]:
    canary = subject.status.canary
    return [canary.revision] if canary else []


def _in_step(subject: Subject) -> list[str]:
    canary = subject.status.canary
    return [canary.revision] if canary and (canary.step >= 0 or canary.mirroring) else []


def _waiting(subject: Subject) -> list[str]:
    canary = subject.status.canary
    return [canary.revision] if canary and canary.paused else []


def _abortable(subject: Subject) -> list[str]:
    """The canary, and what serves while its predecessor is warm: an abort without a revision means the first of them."""
    status = subject.status
    promoted = [status.stable.revision] if status.stable and status.previous else []
    return [*_canary(subject), *promoted]


def _rejected(subject: Subject) -> list[str]:
    """The one that the spec asks for comes first: it is what a retry without a revision means."""
    wanted = subject.rejection
    others = [found.revision for found in reversed(subject.status.rejected)]
    return list(dict.fromkeys([wanted.revision, *others] if wanted else others))


_MEANT: Final[Mapping[Order, Callable[[Subject], list[str]]]] = {
    "promote": _canary,
    "skip": _in_step,
    "resume": _waiting,
    "abort": _abortable,
    "retry": _rejected,
}
_NOTHING: Final[dict[Order, str]] = {
    "promote": "no canary to promote",
    "skip": "no canary at a step that could be skipped",
    "resume": "no step that waits and no hold to resume from",
    "abort": "no canary to roll back, and no previous revision to return to",
    "retry": "no revision that was rolled back",
}


def _step(order: Order, subject: Subject) -> int | None:
    canary: CanaryStatus | None = subject.status.canary
    return canary.step + 1 if order in controls.NEEDS_STEP and canary else None


def _instead(order: Order, subject: Subject) -> str:
    if order in ("promote", "skip") and subject.rejection:
        return f"{subject.rejection.revision} was rolled back; `retry` has it tried again"
    if order == "abort" and subject.status.stable:
        return "put the older content back into the spec to return to it"
    if order == "retry":
        return "change the spec to start a rollout"
    return "`status` shows what is going on"
