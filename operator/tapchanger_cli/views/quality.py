"""How often answers are right, as far as labels have come, and what these can't tell."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from tapchanger_cli.views.parts import WAITING, table
from tapchanger_cli.words import percent
from tapchanger_operator.api.quality import QualityStatus


def short(record: QualityStatus) -> RenderableType:
    """The accuracy in a line, and the warnings."""
    return Group(Text(record.message), *(Text(f"! {one}", style=WAITING) for one in record.warnings))


def view(record: QualityStatus) -> RenderableType:
    """Everything that is known: accuracy, calibration, the worst slices and who serves beside, and the warnings."""
    lines: list[RenderableType] = [short(record)]
    if record.share is not None:
        lines.append(Text(f"· {percent(record.share)} of the answers are labelled, by the servers' sample"))
    if record.adjusted is not None:
        lines.append(Text(f"· accuracy with answers weighed as they occur: {percent(record.adjusted)}"))
    if record.ece is not None:
        bounds = f"{record.ece_low or 0.0:.3f} to {record.ece_high or 1.0:.3f}"
        brier = "" if record.brier is None else f"; Brier score {record.brier:.3f}"
        lines.append(Text(f"· calibration error {record.ece:.3f} ({bounds}){brier}"))
    if record.slices:
        rows = [
            (one.name, str(one.labelled), percent(one.accuracy), f"{percent(one.low)} to {percent(one.high)}")
            for one in record.slices
        ]
        lines.append(table(("WORST SLICES", "LABELS", "RIGHT", "95 %"), rows, right=("LABELS", "RIGHT", "95 %")))
    if record.others:
        cells = [
            (
                one.role,
                one.revision,
                str(one.labelled),
                "" if one.accuracy is None else percent(one.accuracy),
                "" if one.accuracy is None else f"{percent(one.low)} to {percent(one.high)}",
            )
            for one in record.others
        ]
        heads = ("BESIDE", "REVISION", "LABELS", "RIGHT", "95 %")
        lines.append(table(heads, cells, right=("LABELS", "RIGHT", "95 %")))
    return Group(*lines)
