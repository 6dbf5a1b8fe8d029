"""Waiting with a deadline: what was waited for, what was seen last, and how it looked around it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class LateError(AssertionError):
    """Something did not happen in time."""


def until(
    what: str,
    look: Callable[[], T | None],
    seconds: float,
    *,
    every: float = 0.5,
    last: Callable[[], str] | None = None,
) -> T:
    """The first answer of `look` that is neither None nor False, asked `every` so many seconds.

    Raises:
        LateError: there was none within `seconds`; `last` tells what the world looked like then.
    """
    began = time.monotonic()
    while True:
        answer = look()
        if answer is not None and answer is not False:
            return answer
        if time.monotonic() - began > seconds:
            raise LateError(f"waited {seconds:.0f} s for {what}" + (f"\n{last()}" if last else ""))
        time.sleep(every)
