"""The way in for payloads: a credential is asked for, and only so many wait to be counted at a time.

Counting is one thing after the other, so what comes faster than it can be counted has to wait. What waits is bounded in
number and in bytes; what comes beyond that is turned away before it is read, and its sender told when to come again. Nothing
that was let in is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

from tapchanger_serving.observer.gate import Gate, UnprovenError
from tapchanger_serving.observer.ingest import Ingest, Result
from tapchanger_serving.observer.spans import Span
from tapchanger_serving.observer.trust import Grant, TrustError

T = TypeVar("T")

UNAUTHENTICATED: Final = "unauthenticated"
UNPROVEN: Final = "unproven"
OVERLOADED: Final = "overloaded"
TOO_SLOW: Final = "too_slow"
RETRY_SECONDS: Final = 1
READ_SECONDS: Final = 10.0
"""How long a payload may take to come once it has a place; a sender that stops in the middle would keep that from others."""


class TurnedAwayError(Exception):
    """A payload that is not let in. `reason` is for the metric, the message for the sender.

    `again` says that the same payload may be welcome in :data:`RETRY_SECONDS`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.again = reason != UNAUTHENTICATED


@dataclass
class Place:
    """A payload that was let in: what its sender may tell of, and how many bytes it holds."""

    grant: Grant
    size: int = 0


@dataclass
class Intake:
    """Lets payloads in and counts them in turn."""

    ingest: Ingest
    gate: Gate
    max_waiting: int = 256
    max_waiting_bytes: int = 64 << 20
    waiting: int = 0
    waiting_bytes: int = 0
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def admit(self, authorization: str | None) -> Grant:
        """What a sender may tell of, before anything of its payload is read. Raises TurnedAwayError."""
        if self.waiting >= self.max_waiting:
            raise self._full()
        try:
            return await self.gate.check(authorization)
        except TrustError as none:
            raise TurnedAwayError(UNAUTHENTICATED, str(none)) from None
        except UnprovenError as later:
            raise TurnedAwayError(UNPROVEN, str(later)) from None

    @contextmanager
    def place(self, grant: Grant, size: int = 0) -> Iterator[Place]:
        """A place for a payload of `size` bytes, as far as that is known, until it is counted. Raises TurnedAwayError."""
        if self.waiting >= self.max_waiting or self.waiting_bytes + size > self.max_waiting_bytes:
            raise self._full()
        self.waiting += 1
        self.waiting_bytes += size
        place = Place(grant, size)
        try:
            yield place
        finally:
            self.waiting -= 1
            self.waiting_bytes -= place.size

    def hold(self, place: Place, size: int) -> None:
        """Says that the payload has `size` bytes. Raises TurnedAwayError where those of all are too many."""
        if size > place.size:
            if self.waiting_bytes + size - place.size > self.max_waiting_bytes:
                raise self._full()
            self.waiting_bytes += size - place.size
            place.size = size

    async def count(self, place: Place, transport: str, decode: Callable[[], Iterable[Span]]) -> Result:
        """Decodes a payload and counts its spans, when its turn comes. Raises what `decode` raises; then none counts."""
        return await self.in_turn(lambda: self.ingest.take(list(decode()), transport, place.grant))

    async def in_turn(self, work: Callable[[], T]) -> T:
        """What comes of some work, when its turn comes."""
        async with self._turn:
            # Between two payloads others get in, or are turned away, and questions are answered.
            await asyncio.sleep(0)
            return work()

    def refuse(self, transport: str, reason: str) -> None:
        """Counts a payload that was not taken."""
        self.ingest.account.payloads_refused[transport, reason] += 1

    def _full(self) -> TurnedAwayError:
        return TurnedAwayError(
            OVERLOADED,
            f"{self.waiting} payloads of {self.waiting_bytes} bytes wait to be counted; send it again after"
            f" {RETRY_SECONDS} s",
        )
