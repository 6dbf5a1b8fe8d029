"""What a person sees while the demonstration runs, and the seconds of each phase."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Progress:
    """One line an event. `clock` returns seconds."""

    clock: Callable[[], float] = time.monotonic
    seconds: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """One line, with the seconds since the demonstration began."""
        print(f"[{self.clock() - self.began:6.1f}s]   {text}", flush=True)

    @contextmanager
    def phase(self, name: str, what: str) -> Iterator[None]:
        """Announces a phase and takes its time, which counts only when it succeeds."""
        began = self.clock()
        print(f"[{began - self.began:6.1f}s] {name}: {what}", flush=True)
        yield
        self.seconds[name] = round(self.clock() - began, 1)
        self.say(f"{name} took {self.seconds[name]} s")
