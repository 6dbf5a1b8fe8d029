"""A queue of object keys: deduplicated, delayed, one pass at a time for each key, with back-off for those that failed."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

COALESCE_SECONDS: Final = 0.1
"""Events for one key within this time cause one pass."""
FIRST_BACKOFF_SECONDS: Final = 0.5
LONGEST_BACKOFF_SECONDS: Final = 60.0


def backoff(failures: int) -> float:
    """Seconds to wait after the `failures`-th failure in a row (1, 2, …)."""
    return min(FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 16), LONGEST_BACKOFF_SECONDS)


class WorkQueue(Generic[Key]):
    """Runs `handle` for each key that is due. `clock` gives monotonic seconds.

    `handle` returns the seconds until the key's next pass, or None where there is none. An exception counts as a
    failure: the key comes back after a back-off, and the others are not held up.
    Adding a key again brings its pass forward, never back.
    """

    def __init__(self, handle: Callable[[Key], Awaitable[float | None]], clock: Callable[[], float]) -> None:
        self._handle = handle
        self._clock = clock
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._order = itertools.count()
        self._active: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._changed = asyncio.Condition()

    def __len__(self) -> int:
        return len(self._due)

    async def add(self, key: Key, after: float = COALESCE_SECONDS) -> None:
        """Wants a pass over `key` in at most `after` seconds."""
        async with self._changed:
            self._schedule(key, self._clock() + after)
            self._changed.notify_all()

    async def run(self, workers: int) -> None:
        """Works until cancelled, on at most `workers` keys at once."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self._next()
            after: float | None
            try:
                after = await self._handle(key)
                self._failures.pop(key, None)
            except Exception:  # noqa: BLE001 - the handler has told of it; here only its return is arranged
                self._failures[key] = self._failures.get(key, 0) + 1
                after = backoff(self._failures[key])
            async with self._changed:
                self._active.discard(key)
                if key in self._due:
                    heapq.heappush(self._heap, (self._due[key], next(self._order), key))
                if after is not None:
                    self._schedule(key, self._clock() + after)
                self._changed.notify_all()

    async def _next(self) -> Key:
        async with self._changed:
            while True:
                now = self._clock()
                ready = self._pop(now)
                if ready is not None:
                    return ready
                await self._wait(self._heap[0][0] - now if self._heap else None)

    async def _wait(self, timeout: float | None) -> None:
        try:
            await asyncio.wait_for(self._changed.wait(), timeout)
        except TimeoutError:
            return

    def _pop(self, now: float) -> Key | None:
        """The first key that is due. One that is being worked on stays due, and comes back when its pass has ended."""
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) != due or key in self._active:
                continue
            del self._due[key]
            self._active.add(key)
            return key
        return None

    def _schedule(self, key: Key, due: float) -> None:
        known = self._due.get(key)
        if known is not None and known <= due:
            return
        self._due[key] = due
        heapq.heappush(self._heap, (due, next(self._order), key))
