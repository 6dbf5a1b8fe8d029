"""`status` without a name, and `history`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import RenderableType
from rich.text import Text

from tapchanger_cli.subject import Subject
from tapchanger_cli.views.parts import BAD, GOOD, WAITING, table, truth
from tapchanger_cli.words import clock, since
from tapchanger_operator.api import reasons

_EVENTS: Final = {"Promoted": GOOD, "RolledBack": BAD, "Suspected": BAD, "Started": WAITING}


def everything(subjects: Sequence[Subject], now: float, *, namespaces: bool) -> RenderableType:
    """One line for each deployment; with the namespace where they are of several."""
    names = ("NAME", "READY", "STABLE", "CANARY", "WEIGHT", "VERDICT", "P99", "AGE", "STATUS")
    columns = ("NAMESPACE", *names) if namespaces else names
    rows = []
    for subject in sorted(subjects, key=lambda one: (one.namespace, one.name)):
        state, canary = subject.status, subject.status.canary
        judged = subject.condition(reasons.ANALYSIS)
        cells = (
            subject.name,
            truth(subject.ready),
            state.stable.revision if state.stable else "–",
            canary.revision if canary else "–",
            f"{canary.weight} %" if canary else "–",
            judged.reason if canary and judged else "–",
            (state.slo.p99 if state.slo else None) or "–",
            since(subject.created_at, now),
            subject.sentence,
        )
        rows.append((subject.namespace, *cells) if namespaces else cells)
    return table(columns, rows, right=("WEIGHT", "P99", "AGE"))


def history(subject: Subject, now: float) -> RenderableType:
    """Who served when, the newest last."""
    if not subject.status.history:
        return Text(f"nothing has happened to {subject.name} yet")
    rows = [
        (
            clock(entry.at),
            since(entry.at, now),
            Text(entry.event, style=_EVENTS.get(entry.event, "")),
            entry.revision,
            entry.by or "operator",
            entry.message,
        )
        for entry in subject.status.history
    ]
    return table(("TIME", "AGO", "EVENT", "REVISION", "BY", "WHAT"), rows, right=("AGO",))
