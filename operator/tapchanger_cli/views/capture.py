"""Which texts of users are kept for retraining, and what becomes of them."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from tapchanger_cli.views.parts import BAD, QUIET
from tapchanger_operator.api.capture import CaptureStatus


def view(record: CaptureStatus) -> RenderableType:
    """What is captured, how much was, and what stands in the way; where texts lie that are still to be deleted."""
    lines = [Text(record.message or "no texts are captured")]
    if record.trouble:
        lines.append(Text(record.trouble, style=BAD))
    if record.asked_at:
        why = f" ({', '.join(record.reasons)})" if record.reasons else ""
        written = f", last written at {record.last_written}" if record.last_written else ""
        lines.append(Text(f"· {record.captured} captured, {record.dropped} dropped{why}{written}"))
    for place in record.places:
        if place.until:
            told = f"· {place.prefix}: until {place.until}; deleted after {place.retention}"
            lines.append(Text(told, style=QUIET))
    return Group(*lines)
