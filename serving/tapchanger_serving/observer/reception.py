"""Where feedback comes in: what this observer doesn't know goes to the others, and what came too soon is tried again.

A label may be sent a moment after its answer, while the spans of the request are still under way. So what nobody knows is
tried again for :data:`PATIENCE` before it is refused; it is never taken on trust.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from tapchanger_serving.contract.feedback import Feedback
from tapchanger_serving.observer.feedback import Desk, Taken
from tapchanger_serving.observer.peers import Peers, PeersError
from tapchanger_serving.observer.trust import Grant
from tapchanger_serving.observer.windows import Windows

PATIENCE: Final = 2.0
"""Seconds: routers tell of a request half a second after its end, servers a second after it."""
AGAIN: Final = 0.25
MOST_HELD: Final = 128
"""Senders that are kept waiting at a time; further ones hear at once what isn't known."""
MOST_HANDED_ON: Final = 100
"""Entries of one request that the others are asked about."""


class Reception:
    """Takes feedback for one of several observers. `clock` gives Unix seconds."""

    def __init__(
        self, windows: Windows, clock: Callable[[], float], peers: Peers | None = None, patience: float = PATIENCE
    ) -> None:
        self.desk = Desk(windows)
        self._clock = clock
        self._peers = peers
        self._patience = patience
        self._held = 0

    async def take(
        self, items: Sequence[Feedback], grant: Grant, authorization: str | None = None, *, alone: bool = False
    ) -> Taken:
        """What came of `items`; with `alone` only this observer is asked, at once, and for what it knows itself.

        Of several observers the one that knows an answer counts its labels, so that a later one meets an earlier one there.
        Raises ForbiddenError, and PeersError where nothing was counted.
        """
        shared = alone or self._peers is not None
        taken = self.desk.take(items, self._clock(), grant, believing=not shared)
        if taken.refused and not alone:
            await self._elsewhere(taken, items, authorization)
            for place in taken.unknown if shared else ():
                self.desk.again(taken, place, items[place], self._clock())
            if taken.refused and self._held < MOST_HELD and self._patience > 0:
                await self._later(taken, items)
                await self._elsewhere(taken, items, authorization)
        self.desk.give_up(taken)
        return taken

    async def _later(self, taken: Taken, items: Sequence[Feedback]) -> None:
        """Tries again what wasn't known."""
        self._held += 1
        try:
            waited = 0.0
            while taken.refused and waited < self._patience:
                await asyncio.sleep(AGAIN)
                waited += AGAIN
                for place in taken.unknown:
                    self.desk.again(taken, place, items[place], self._clock())
        finally:
            self._held -= 1

    async def _elsewhere(self, taken: Taken, items: Sequence[Feedback], authorization: str | None) -> None:
        """Gives what wasn't known to the other observers."""
        if self._peers is None:
            return
        try:
            for place in taken.unknown[:MOST_HANDED_ON]:
                fate = await self._peers.hand_on(items[place], authorization)
                if fate is not None:
                    taken.settle(place, fate)
        except PeersError:
            if not taken.fates:
                raise  # nothing was counted, so that all of it may be sent again
