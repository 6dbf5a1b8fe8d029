"""`status NAME`: who serves, how far the rollout is, what the verdict rests on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from tapchanger_cli import documents
from tapchanger_cli.subject import Subject
from tapchanger_cli.views import capture, drift, evidence, experiment, quality, retraining
from tapchanger_cli.views.parts import BAD, GOOD, QUIET, WAITING, facts, table
from tapchanger_cli.words import clock, duration, left, since
from tapchanger_operator.api import reasons
from tapchanger_operator.api.status import ControlStatus

_MARKS: Final = {"done": ("✔", GOOD), "current": ("●", WAITING), "next": ("○", QUIET)}


def view(subject: Subject, now: float) -> RenderableType:
    """One deployment."""
    head = Text.assemble((subject.name, "bold"), f"  namespace {subject.namespace}  ", _state(subject))
    parts: list[RenderableType] = [head, Text(subject.sentence), Text(""), revisions(subject, now)]
    analysis = subject.status.analysis
    parts += [Text(""), facts([("Rollout", progress(subject, now)), *_judged(subject)])]
    if analysis and analysis.evidence:
        parts += [Text(""), evidence.figures(analysis)]
    if subject.status.arms:
        parts += [Text(""), *experiment.view(subject.status)]
    rest = list(_rest(subject))
    if rest:
        parts += [Text(""), facts(rest)]
    return Group(*parts)


def revisions(subject: Subject, now: float) -> RenderableType:
    """Every revision that has servers."""
    rows = []
    for entry in documents.revisions(subject):
        role = entry["role"]
        until = f" (warm for {left(entry['until'], now)})" if role == "previous" else ""
        style = {"stable": GOOD, "canary": WAITING}.get(role, QUIET)
        ready = Text(f"{entry['ready']}/{entry['replicas']}", style="" if entry["ready"] >= entry["replicas"] else BAD)
        weight = f"{entry['weight']} %"
        age = since(entry["since"], now)
        rows.append(
            (Text(role, style=style), entry["revision"], weight, ready, age, entry["build"], entry["uri"] + until)
        )
    if not rows:
        return Text("no revision has servers yet", style=QUIET)
    return table(
        ("ROLE", "REVISION", "WEIGHT", "READY", "AGE", "ENGINE", "MODEL"), rows, right=("WEIGHT", "READY", "AGE")
    )


def progress(subject: Subject, now: float) -> Text:
    """The steps of the rollout, and where it stands."""
    canary = subject.status.canary
    if canary and canary.suspicions:
        beside = subject.status.stable.revision if subject.status.stable else "nothing"
        return Text(f"● {canary.revision} is compared with {beside} since it broke an objective", style=WAITING)
    drawn = Text("")
    if canary:
        starting = canary.step < 0
        drawn.append("● " if starting else "✔ ", style=WAITING if starting else GOOD)
        drawn.append("start")
    entries = [*documents.steps(subject), {"weight": 100, "state": "done" if subject.ready == "True" else "next"}]
    for entry in entries:
        mark, style = _MARKS[entry["state"]]
        drawn.append(" → " if drawn.plain else "", style=QUIET)
        drawn.append(f"{mark} ", style=style)
        drawn.append(f"{entry['weight']} %", style="bold" if entry["state"] == "current" else "")
    where = _where(subject, now)
    return drawn.append(f"   {where}", style=WAITING) if where else drawn


def _where(subject: Subject, now: float) -> str:
    canary = subject.status.canary
    if subject.hold_shown:
        return "held"
    if canary is None:
        return "rolled back" if subject.rejection else ""
    if canary.paused:
        timeout = subject.policy.mirror_timeout if canary.mirroring else subject.policy.timeout
        return f"undecided after {timeout}, waits for a person"
    if canary.mirror and canary.mirroring:
        return f"gets copies of {canary.mirror.percent} % of the requests, {duration(canary.elapsed(now))}"
    if canary.step < 0:
        return f"servers are starting, {since(canary.created_at, now)}"
    elapsed = duration(canary.elapsed(now))
    return f"step {canary.step + 1} of {len(subject.policy.weights)}, {elapsed} of at most {subject.policy.timeout}"


def _judged(subject: Subject) -> Iterator[tuple[str, RenderableType]]:
    if subject.hold is not None:
        by = f"by {subject.hold_by}" if subject.hold_by else ""
        words = ": ".join(part for part in (by, subject.hold) if part)
        yet = "" if subject.hold_shown else " (nothing is under way that it would stop)"
        yield "Held", Text(f"{words}{yet}", style=WAITING)
    if subject.status.analysis:
        yield "Verdict", evidence.verdict(subject, subject.status.analysis)
        blamed = evidence.blamed(subject.status.analysis)
        if blamed:
            yield "Blame", Group(*blamed)
    canary = subject.status.canary
    if canary and canary.mirror and canary.mirror.agreement is not None:
        yield "Answers", evidence.mirrored(canary.mirror)


def _rest(subject: Subject) -> Iterator[tuple[str, RenderableType | str]]:
    seen = evidence.slo(subject)
    if seen:
        yield "SLO", seen
    if subject.status.drift:
        yield "Drift", drift.short(subject.status.drift)
    if subject.status.retraining and (subject.status.retraining.message or subject.status.retraining.runs):
        yield "Retraining", retraining.short(subject.status.retraining)
    if subject.status.quality:
        yield "Quality", quality.short(subject.status.quality)
    if subject.status.capture:
        yield "Captured texts", capture.view(subject.status.capture)
    if subject.rejection:
        yield "Rejected", f"{subject.rejection.revision} at {clock(subject.rejection.at)} ({subject.rejection.reason})"
    if subject.status.controls:
        yield "Orders", Group(*(ordered(answer) for answer in subject.status.controls))
    if subject.outdated:
        yield "Note", Text("the operator has not looked at the newest spec yet", style=WAITING)


def ordered(answer: ControlStatus) -> Text:
    """An order and its answer."""
    mark = ("✔ ", GOOD) if answer.done else ("✘ ", BAD)
    by = f" by {answer.by}" if answer.by else ""
    return Text.assemble(mark, f"{answer.order}{by}: {answer.message}")


def _state(subject: Subject) -> Text:
    """Ready, or what it is instead."""
    if subject.ready == "True":
        return Text("ready", style=GOOD)
    stalled, progressing = subject.condition(reasons.STALLED), subject.condition(reasons.PROGRESSING)
    if stalled and stalled.status == "True":
        return Text(f"stalled ({stalled.reason})", style=BAD)
    under_way = bool(progressing and progressing.status == "True") or not subject.status.conditions
    return Text("under way" if under_way else "not ready", style=WAITING if under_way else BAD)
