"""What the time of a batch goes to: a watch that is told when the work changes its kind."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

PRE: Final = 0
"""Reading, tokenizing and padding."""
COMPUTE: Final = 1
"""The engine's own work."""
POST: Final = 2
"""Turning the engine's output into answers."""


class Phases(NamedTuple):
    """One batch: when it began and ended, and when the engine first got and last gave something, in nanoseconds since
    the epoch; `pre`, `compute` and `post` are nanoseconds and add up to the whole. An engine that never ran began and
    ended at the end.
    """

    begin: int
    computing: int
    computed: int
    end: int
    pre: int
    compute: int
    post: int


class Watch:
    """Measures one batch at a time. A batch of several chunks goes through the phases once for each of them."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """A batch begins, with its pre-processing."""
        self._begin = self._since = time.time_ns()
        self._phase = PRE
        self._spent = [0, 0, 0]
        self._computing = self._computed = 0

    def enter(self, phase: int) -> None:
        """From now on it is `phase`: :data:`PRE`, :data:`COMPUTE` or :data:`POST`."""
        now = time.time_ns()
        self._spent[self._phase] += now - self._since
        if phase == COMPUTE:
            self._computing = self._computing or now
        elif self._phase == COMPUTE:
            self._computed = now
        self._phase, self._since = phase, now

    def stop(self) -> Phases:
        """The batch ends."""
        self.enter(POST)
        end = self._since
        return Phases(self._begin, self._computing or end, self._computed or end, end, *self._spent)
