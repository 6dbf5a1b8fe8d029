"""Commands that show: status, history, explain."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator

import click
from rich.console import RenderableType
from rich.text import Text

from tapchanger_cli import builds, documents, live
from tapchanger_cli.errors import CliError
from tapchanger_cli.finding import find
from tapchanger_cli.options import Helped, command, named
from tapchanger_cli.session import Session, console, dumped
from tapchanger_cli.subject import Subject, read
from tapchanger_cli.views import explanation, lists, overview
from tapchanger_cli.waiting import Picture, lasting


@click.command(
    cls=Helped,
    examples=(
        "{program} status moderation            who serves, how far the rollout is, the verdict's figures",
        "{program} status moderation --watch    the same, live",
        "{program} status -A                    all deployments of all namespaces",
        "{program} status moderation -o json",
    ),
)
@named(required=False)
@click.option("-w", "--watch", is_flag=True, help="Go on showing changes; on a terminal as a live view.")
@click.option("-A", "--all-namespaces", is_flag=True, help="All deployments of all namespaces.")
@command
def status(session: Session, name: str | None, watch: bool, all_namespaces: bool) -> None:
    """Show a deployment's rollout, or all deployments."""
    if name and all_namespaces:
        raise click.UsageError("write a NAME or --all-namespaces, not both")
    namespace = None if all_namespaces else session.namespace
    if watch:
        _watch(session, namespace, name)
    elif name:
        subject = find(session.cluster, session.namespace, name)
        session.emit(documents.status(subject), lambda: overview.view(subject, session.now()))
    else:
        subjects = [read(body) for body in session.cluster.deployments(namespace)]
        session.emit(documents.statuses(subjects), lambda: _all(subjects, namespace, session.now()))


@click.command(cls=Helped, examples=("{program} history moderation", "{program} history moderation -o yaml"))
@named()
@command
def history(session: Session, name: str) -> None:
    """Show who served when, why it changed and who ordered it."""
    subject = find(session.cluster, session.namespace, name)
    session.emit(documents.history(subject), lambda: lists.history(subject, session.now()))


@click.command(cls=Helped, examples=("{program} explain moderation", "{program} explain moderation -o json"))
@named()
@command
def explain(session: Session, name: str) -> None:
    """Explain why a deployment is as it is, and what you can do."""
    subject = find(session.cluster, session.namespace, name)
    build = None
    if subject.status.target:
        body = session.cluster.build(session.namespace, subject.status.target.build)
        build = builds.read(body) if body else None
    session.emit(
        documents.explain(subject, build, session.program), lambda: explanation.view(subject, build, session.program)
    )


def _all(subjects: list[Subject], namespace: str | None, now: float) -> RenderableType:
    if not subjects:
        where = f"in namespace {namespace}" if namespace else "in any namespace"
        return Text(f"there is no TransformerDeployment {where}")
    return lists.everything(subjects, now, namespaces=namespace is None)


def _watch(session: Session, namespace: str | None, name: str | None) -> None:
    if name:
        find(session.cluster, session.namespace, name)
    pictures = lasting(functools.partial(session.cluster.follow, namespace, name), time.sleep)
    if name:
        pictures = _while_there(pictures, name)
    screen = console()
    try:
        if session.output:
            _documents(session, pictures)
        elif screen.is_terminal:
            live.on_terminal(pictures, functools.partial(_drawn, namespace, name), screen, session.now)
        else:
            for line in live.as_lines(pictures, session.now):
                click.echo(line)
    except KeyboardInterrupt:
        click.echo(err=True)  # the way to end it


def _drawn(namespace: str | None, name: str | None, subjects: list[Subject], now: float) -> RenderableType:
    return overview.view(subjects[0], now) if name else _all(subjects, namespace, now)


def _documents(session: Session, pictures: Iterator[Picture]) -> None:
    """A document for each change of a deployment's status."""
    told: dict[tuple[str, str], str] = {}
    for picture in pictures:
        for subject in map(read, picture.objects):
            text = dumped(documents.status(subject), session.output or "json", line=True)
            if told.get((subject.namespace, subject.name)) != text:
                told[subject.namespace, subject.name] = text
                click.echo(text)


def _while_there(pictures: Iterator[Picture], name: str) -> Iterator[Picture]:
    for picture in pictures:
        if not picture.objects:
            raise CliError(f"{name} was deleted")
        yield picture
