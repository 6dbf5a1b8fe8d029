"""Progress lines for people, with the seconds since the command began."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO


@dataclass(frozen=True)
class Report:
    """Prints one line an event. `clock` returns seconds."""

    clock: Callable[[], float] = time.monotonic
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    began: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        print(f"[{self.clock() - self.began:6.1f}s] {text}", file=self.stream, flush=True)
