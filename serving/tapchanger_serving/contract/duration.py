"""Lengths of time as specs write them."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import Field

DURATION_PATTERN: Final = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

Duration = Annotated[str, Field(pattern=DURATION_PATTERN, max_length=32)]
"""A length of time such as `50ms`, `1m30s` or `30d`."""


def seconds(duration: str) -> float:
    """Length of `duration` in seconds. Raises ValueError where it isn't one."""
    if not re.match(DURATION_PATTERN, duration):
        raise ValueError(f"{duration!r} is not a duration; write for example 50ms, 30s, 5m or 1h30m")
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _PART.findall(duration))
