"""Markdown whose cells hold foreign texts: nothing in them is read as Markdown or HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from tapchanger_serving.build.pages.words import plain

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~>-])")


def escaped(text: object) -> str:
    """A foreign text as Markdown that shows it literally."""
    return _SPECIAL.sub(r"\\\1", html.escape(plain(text), quote=False).replace("://", "&#58;//"))


def code(text: object) -> str:
    """A foreign text in a code span, in a fence longer than any run of backticks within."""
    content = plain(text)
    longest = max((len(run) for run in re.findall("`+", content)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{content}{pad}{fence}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], figures: Iterable[str] = ()) -> str:
    """A table of cells that are Markdown already; `figures` names the columns that are aligned right."""
    right = set(figures)
    lines = [columns, ["---:" if name in right else "---" for name in columns], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
