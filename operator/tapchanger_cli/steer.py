"""Commands that give orders: promote, skip, resume, abort, retry, pause, retrain."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click
from rich.text import Text

from tapchanger_cli import documents, orders
from tapchanger_cli.errors import NotCarriedOutError
from tapchanger_cli.finding import find
from tapchanger_cli.options import Duration, Helped, Revision, command, named
from tapchanger_cli.session import Session
from tapchanger_cli.subject import Subject, read
from tapchanger_cli.waiting import until
from tapchanger_cli.words import duration
from tapchanger_operator.api import controls
from tapchanger_operator.api.controls import Order
from tapchanger_operator.api.status import ControlStatus


def _ordering(
    *, revision: bool = True, reason_needed: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds NAME and the options of an order."""
    need: dict[str, Any] = {"required": True} if reason_needed else {"default": ""}
    options = [
        named(),
        click.option("--reason", help="Why, in your words; it is kept with the order.", **need),
        click.option("--wait/--no-wait", default=True, show_default=True, help="Wait for the operator's answer."),
        click.option("--timeout", type=Duration(), default="60s", show_default=True, help="How long to wait."),
    ]
    if revision:
        words = "The revision that the order means (default: the one that it must mean now)."
        options.append(click.option("--revision", type=Revision(), help=words))

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return add


@click.command(cls=Helped, examples=("{program} promote moderation --reason 'seen in staging'",))
@_ordering()
@command
def promote(session: Session, name: str, **how: Any) -> None:
    """Give the canary all requests at once."""
    _order(session, "promote", name, **how)


@click.command(cls=Helped, examples=("{program} abort moderation --reason 'wrong labels'",))
@_ordering()
@command
def abort(session: Session, name: str, **how: Any) -> None:
    """Roll the canary back, or a promotion during its watch."""
    _order(session, "abort", name, **how)


@click.command(
    cls=Helped,
    examples=(
        "{program} retry moderation --reason 'the database is back'",
        "{program} retry moderation --revision 8fa1",
    ),
)
@_ordering()
@command
def retry(session: Session, name: str, **how: Any) -> None:
    """Try a revision again that was rolled back."""
    _order(session, "retry", name, **how)


@click.command(cls=Helped, examples=("{program} skip moderation --reason 'no traffic at night'",))
@_ordering(reason_needed=True)
@command
def skip(session: Session, name: str, **how: Any) -> None:
    """Pass the canary's present step without a verdict."""
    _order(session, "skip", name, **how)


@click.command(cls=Helped, examples=("{program} pause moderation --reason 'release freeze'",))
@_ordering(revision=False)
@command
def pause(session: Session, name: str, reason: str, wait: bool, timeout: float) -> None:
    """Hold the rollout where it is; rollbacks go on."""
    subject = find(session.cluster, session.namespace, name)
    text, by = orders.reason(reason, session.now()), session.cluster.user()
    subject = _annotated(session, subject, orders.patch(controls.PAUSE, text, by))
    if wait and subject.under_way:
        subject = _seen(session, subject, timeout, lambda now: now.hold_shown or not now.under_way)
    message = "held" if wait else "will be held"
    if not subject.under_way:
        message = "nothing is under way; the next change of the spec will be held"
    _tell(session, subject, documents.order(subject, "pause", text, by, True if wait else None, message))


@click.command(
    cls=Helped, examples=("{program} resume moderation", "{program} resume moderation --reason 'requests come again'")
)
@_ordering()
@command
def resume(session: Session, name: str, revision: str | None, reason: str, wait: bool, timeout: float) -> None:
    """Take a hold away, and begin an undecided step anew."""
    subject = find(session.cluster, session.namespace, name)
    canary = subject.status.canary
    if (canary and canary.paused) or subject.hold is None:
        also = orders.patch(controls.PAUSE, None, None) if subject.hold is not None else {}
        _order(session, "resume", name, revision, reason, wait, timeout, also=also)
        return
    by = session.cluster.user()
    subject = _annotated(session, subject, orders.patch(controls.PAUSE, None, None))
    if wait:
        subject = _seen(session, subject, timeout, lambda now: not now.hold_shown)
    message = f"goes on: {subject.sentence}" if wait else "the hold is taken away"
    _tell(session, subject, documents.order(subject, "resume", "", by, True if wait else None, message))


@click.command(cls=Helped, examples=("{program} retrain moderation --reason 'a thousand new labels'",))
@_ordering(revision=False)
@command
def retrain(session: Session, name: str, reason: str, wait: bool, timeout: float) -> None:
    """Start a run that trains the model anew."""
    subject = find(session.cluster, session.namespace, name)
    annotation, by = controls.annotation("retrain"), session.cluster.user()
    text = orders.unlike(orders.reason(reason, session.now()), subject, annotation, session.now())
    subject = _annotated(session, subject, orders.patch(annotation, text, by))
    if not wait:
        message = f"ordered; the answer will be in `{session.program} status {name}`"
        _tell(session, subject, documents.order(subject, "retrain", text, by, None, message))
        return
    answer = until(lambda: orders.retrained(_again(session, subject), text), timeout, time.monotonic, time.sleep)
    if answer is None:
        raise _unanswered(session, subject, timeout)
    _tell(session, subject, documents.order(subject, "retrain", text, answer.by or by, answer.done, answer.message))
    if not answer.done:
        raise NotCarriedOutError(f"retrain was not carried out: {answer.message}")


def _order(
    session: Session,
    order: Order,
    name: str,
    revision: str | None,
    reason: str,
    wait: bool,
    timeout: float,
    also: orders.Patch | None = None,
) -> None:
    """Gives an order in one patch, together with the annotations `also`, and tells the answer."""
    subject = find(session.cluster, session.namespace, name)
    meant = orders.meant(order, subject, revision, orders.reason(reason, session.now()))
    text, by = orders.value(meant, subject, session.now()), session.cluster.user()
    patch = orders.patch(controls.annotation(order), text, by)
    subject = _annotated(session, subject, {**(also or {}), **patch})
    if not wait:
        message = f"ordered for {meant.revision}; the answer will be in `{session.program} status {name}`"
        _tell(session, subject, documents.order(subject, order, text, by, None, message))
        return
    answer = until(lambda: _answer(session, subject, order, text), timeout, time.monotonic, time.sleep)
    if answer is None:
        raise _unanswered(session, subject, timeout)
    _tell(session, subject, documents.order(subject, order, text, answer.by or by, answer.done, answer.message))
    if not answer.done:
        raise NotCarriedOutError(f"{order} was not carried out: {answer.message}")


def _answer(session: Session, subject: Subject, order: Order, text: str) -> ControlStatus | None:
    return orders.answer(_again(session, subject), order, text)


def _again(session: Session, subject: Subject) -> Subject:
    return read(session.cluster.deployment(subject.namespace, subject.name))


def _annotated(session: Session, subject: Subject, patch: orders.Patch) -> Subject:
    return read(session.cluster.annotate(subject.namespace, subject.name, patch))


def _seen(session: Session, subject: Subject, timeout: float, true: Callable[[Subject], bool]) -> Subject:
    """The deployment as soon as its status shows what was ordered. Raises NotCarriedOutError where it doesn't in time."""

    def look() -> Subject | None:
        found = _again(session, subject)
        return found if true(found) else None

    found = until(look, timeout, time.monotonic, time.sleep)
    if found is None:
        raise _unanswered(session, subject, timeout)
    return found


def _unanswered(session: Session, subject: Subject, timeout: float) -> NotCarriedOutError:
    return NotCarriedOutError(
        f"the operator has not answered in {duration(timeout)}; the order stands and is carried out when it does",
        f"see `{session.program} status {subject.name} -n {subject.namespace}`, and whether the operator runs: "
        "`kubectl get pods -A -l app.kubernetes.io/component=operator`",
    )


def _tell(session: Session, subject: Subject, document: documents.Document) -> None:
    if session.output or document["done"] is not False:
        mark = ("✔ ", "green") if document["done"] else ("● ", "yellow")
        session.emit(document, lambda: Text.assemble(mark, f"{subject.name}: {document['message']}"))
