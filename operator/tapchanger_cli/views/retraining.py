"""The run under way, and what became of the last one: data → run → digest → build → revision."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from tapchanger_cli.views.parts import BAD, GOOD, QUIET, WAITING
from tapchanger_cli.words import clock
from tapchanger_operator.api.retraining import RetrainingStatus, RunStatus

_STYLES = {"Promoted": GOOD, "Failed": BAD, "RolledBack": BAD, "BuildFailed": BAD}
_SHORT = 19
"""Characters of a digest that are shown: `sha256:` and twelve digits."""


def short(status: RetrainingStatus) -> RenderableType:
    """The sentence, and the chain of the run that it is about."""
    last = status.run or (status.runs[-1] if status.runs else None)
    style = WAITING if status.run or status.waits else ""
    if last is None:
        return Text(status.message, style=style)
    return Group(Text(status.message, style=style), lineage(last))


def lineage(run: RunStatus) -> Text:
    """One run in a line."""
    sets = "1 data set" if len(run.data) == 1 else f"{len(run.data)} data sets"
    data = f"{sets} → " if run.data else ""
    parts = [run.digest and run.digest[:_SHORT], run.build, run.revision]
    chain = " → ".join(part for part in parts if part)
    figures = ", ".join(f"{name} {value:.4g}" for name, value in list(run.figures.items())[:4])
    words = f"{data}{run.name} ({run.trigger}, {clock(run.started)})" + (f" → {chain}" if chain else "")
    told = Text.assemble(words, "  ", (run.outcome or run.phase, _STYLES.get(run.outcome or "", QUIET)))
    return told.append(f"  {figures}", style=QUIET) if figures else told
