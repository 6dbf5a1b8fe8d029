"""Waits for an operator's answer, and follows what changes. Clock and sleep are arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from tapchanger_cli.errors import UnreachableError

Found = TypeVar("Found")

_EVERY_SECONDS: Final = 0.5
_LONGEST_DELAY: Final = 15.0


@dataclass(frozen=True)
class Picture:
    """All that is followed, as it was last seen. `trouble` says why it may be old."""

    objects: tuple[dict[str, Any], ...]
    trouble: str = ""


def until(
    look: Callable[[], Found | None], timeout: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> Found | None:
    """The first thing that `look` finds, or None after `timeout` seconds. A server that can't be reached is asked again."""
    began = clock()
    while True:
        try:
            found = look()
        except UnreachableError:
            found = None
        if found is not None:
            return found
        if clock() - began >= timeout:
            return None
        sleep(_EVERY_SECONDS)


def lasting(follow: Callable[[], Iterator[list[dict[str, Any]]]], sleep: Callable[[float], None]) -> Iterator[Picture]:
    """Pictures without an end. Once there was one, a lost connection is told in the next and tried again."""
    last, delay = Picture(()), 1.0
    seen = False
    while True:
        try:
            for objects in follow():
                last, delay, seen = Picture(tuple(objects)), 1.0, True
                yield last
            return
        except UnreachableError as problem:
            if not seen:
                raise
            yield Picture(last.objects, f"{problem.message}; trying again")
            sleep(delay)
            delay = min(2 * delay, _LONGEST_DELAY)
