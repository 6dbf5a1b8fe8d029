"""Figures and times as people read them."""

from __future__ import annotations

import re
from typing import Any, Final

from tapchanger_operator.api.base import unix

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "m"))


def duration(seconds: float) -> str:
    """The two largest units of a length of time: 40s, 12m30s, 3h20m, 5d2h. Less than nothing is 0s."""
    parts: list[str] = []
    left = max(0, int(seconds))
    for size, unit in (*_UNITS, (1, "s")):
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count}{unit}" if count else "")
        if len(parts) == 2:
            break
    return "".join(parts) or "0s"


def since(at: str | None, now: float) -> str:
    """How long ago `at` (RFC 3339) was; a dash where it is not known."""
    return duration(now - unix(at)) if at else "–"


def left(until: str, now: float) -> str:
    """How long it is until `until` (RFC 3339)."""
    return duration(unix(until) - now)


def clock(at: str) -> str:
    """`at` (RFC 3339, UTC) to the second, with a space: 2026-11-24 10:00:00Z."""
    return f"{at[:19].replace('T', ' ')}Z"


def number(value: float) -> str:
    """A figure in two or three places: 0.43, 12, 3.1e+05."""
    return f"{value:.2g}" if value < 10.0 or value >= 1e4 else f"{value:.0f}"


def percent(share: float) -> str:
    """A share in percent: 0.1 %, 30 %."""
    return f"{100.0 * share:.3g} %"


def of(bad: int, requests: int) -> str:
    """Bad requests of all: 12 of 40 (30 %)."""
    return f"{bad} of {requests} ({percent(bad / requests)})" if requests else "no requests"


def printable(value: Any) -> Any:
    """`value` with every control character replaced, in nested text too: what others wrote must not steer a terminal."""
    if isinstance(value, str):
        return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, dict):
        return {name: printable(part) for name, part in value.items()}
    if isinstance(value, list):
        return [printable(part) for part in value]
    return value
