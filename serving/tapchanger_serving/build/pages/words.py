"""Figures and foreign texts as people read them."""

from __future__ import annotations

import re
from typing import Any

DASH = "–"
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
"""Control characters, and those that turn the direction of writing or can't be seen."""
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")


def plain(text: object) -> str:
    """A foreign text on one line, with nothing in it that can't be seen."""
    visible = "".join(" " if character in "\r\n\t" else character for character in str(text))
    return _INVISIBLE.sub("\N{REPLACEMENT CHARACTER}", visible)


def clip(text: object, length: int) -> str:
    """The beginning of a foreign text."""
    whole = plain(text)
    return whole if len(whole) <= length else whole[: length - 1] + "…"


def figure(value: float | None, digits: int = 4) -> str:
    """A number in so many significant digits, without an exponent where people would not write one."""
    if value is None:
        return DASH
    if value == int(value) and abs(value) < 1e7:
        return str(int(value))
    return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"


def milliseconds(value: float | None) -> str:
    """0.83 ms, 12.4 ms, 1,240 ms."""
    if value is None:
        return DASH
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def times(value: float | None, base: float) -> str:
    """How many times `base` a value is."""
    return DASH if value is None or base <= 0 else f"{value / base:.2f}"


def percent(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:.3g} %"


def size(count: int) -> str:
    """Bytes in the largest unit that leaves a whole number before the point."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_SIZES) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} B" if unit == 0 else f"{value:.1f} {_SIZES[unit]}"


def spoken(name: str) -> str:
    """A field's camelCase name as words: `nearDuplicates` is "near duplicates"."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: f" {found[0].lower()}", plain(name))


def rows(numbers: Any) -> str:
    """Numbers of rows as a list."""
    return ", ".join(str(number) for number in numbers or ())
