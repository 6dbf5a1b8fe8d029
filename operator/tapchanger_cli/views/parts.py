"""Tables, headings and marks that all views share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

_STYLES: Final = {"True": "green", "False": "red", "Unknown": "yellow"}
GOOD, BAD, WAITING, QUIET = "green", "red", "yellow", "dim"

Justify = Literal["left", "right"]


def heading(text: str) -> Text:
    """A section's name."""
    return Text(text, style="bold")


def truth(value: str, text: str | None = None) -> Text:
    """`True`, `False` or `Unknown` in its colour."""
    return Text(text or value, style=_STYLES.get(value, ""))


def table(columns: Sequence[str], rows: Iterable[Sequence[RenderableType | str]], right: Iterable[str] = ()) -> Table:
    """A table as kubectl draws them: capitals, no lines. `right` names the columns with figures."""
    drawn = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold", highlight=False)
    figures = set(right)
    for index, name in enumerate(columns):
        last = index == len(columns) - 1
        drawn.add_column(name, justify="right" if name in figures else "left", no_wrap=not last, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    return drawn


def facts(rows: Iterable[tuple[str, RenderableType | str]]) -> Table:
    """Names on the left, what there is to say on the right."""
    drawn = Table.grid(padding=(0, 2, 0, 0))
    drawn.add_column(style="bold", no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, value in rows:
        drawn.add_row(name, Text(value) if isinstance(value, str) else value)
    return drawn
