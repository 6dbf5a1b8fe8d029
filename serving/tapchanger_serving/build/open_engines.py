"""Which engines are in memory: each is opened when it is first asked for, and closed when nobody needs it any more."""

from __future__ import annotations

import ctypes
from collections.abc import Container, Sequence

from tapchanger_serving.build.trial import Trial
from tapchanger_serving.engines import Engine, open_engine

Key = tuple[int, int]
"""A candidate's place in the list, and its threads."""


class OpenEngines:
    """The engines of trials."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self._trials = trials
        self._open: dict[Key, Engine] = {}

    def get(self, key: Key) -> Engine:
        """One way to run a candidate. Raises ValueError where the candidate failed."""
        if key not in self._open:
            index, threads = key
            self._open[key] = open_engine(self._trials[index].opened(threads))
        return self._open[key]

    def any(self, index: int) -> Engine:
        """A candidate in one of its ways, all of which answer alike. Raises ValueError where it failed."""
        is_open = next((key for key in self._open if key[0] == index), None)
        return self.get(is_open or (index, next(iter(self._trials[index].threads), 0)))

    def keep(self, keys: Container[Key]) -> None:
        """Closes all others."""
        for key in [key for key in self._open if key not in keys]:
            self._open.pop(key).close()
        give_back()


def give_back() -> None:
    """Asks the C library to return to the system what was freed, where it can; runtimes leave hundreds of MiB behind."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
