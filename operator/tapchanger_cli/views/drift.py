"""Whether the texts still look like the reference, and what moved."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from tapchanger_cli.views.parts import BAD, GOOD, QUIET, WAITING, table
from tapchanger_cli.words import number, percent
from tapchanger_operator.api.drift import DriftAccuracy, DriftStatus
from tapchanger_serving.contract.drift import BY_NAME, FEATURES


def short(record: DriftStatus) -> RenderableType:
    """The verdict in a line, and what the accuracy is thought to be."""
    if record.verdict in FEATURES:
        first = Text(record.message, style=BAD)
    else:
        first = Text.assemble((record.verdict, GOOD if record.verdict == "none" else WAITING), f": {record.message}")
    return Group(first, accuracy(record.accuracy)) if record.accuracy else first


def accuracy(found: DriftAccuracy) -> Text:
    """The estimate without labels, with its interval."""
    words = f"accuracy without labels: {percent(found.estimate)} ({percent(found.low)} to {percent(found.high)})"
    return Text(words) if found.reliable else Text(f"{words}, not reliable: {found.message}", style=QUIET)


def view(record: DriftStatus) -> RenderableType:
    """Everything that is known: the verdict, its evidence, the figures, and where the signal that moved differs most."""
    lines: list[RenderableType] = [short(record)]
    if record.threshold:
        told = f"evidence {number(record.evidence)}, which alarms at {number(record.threshold)}"
        lines.append(Text(f"· {told}; {record.texts} texts compared, {record.repeats} repetitions left out"))
    if record.figures:
        rows = [
            (
                one.feature,
                BY_NAME[one.signal].title if one.signal in BY_NAME else one.signal,
                f"{one.psi:.3f}",
                "" if one.ks is None else f"{one.ks:.3f}",
                f"{one.chi_square:.4g}",
                f"{one.p_value:.2g}",
            )
            for one in record.figures
        ]
        lines.append(table(("FEATURE", "SIGNAL", "PSI", "KS", "CHI²", "P"), rows, right=("PSI", "KS", "CHI²", "P")))
    if record.buckets:
        cells = [(one.name, percent(one.reference), percent(one.now)) for one in record.buckets]
        lines.append(table(("TEXTS WITH", "REFERENCE", "NOW"), cells, right=("REFERENCE", "NOW")))
    return Group(*lines)
