"""Numbers from 0 to 1 of one revision, users' scores or its own confidence, by time in steps of ten seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

STEP: Final = 10


class Tally(NamedTuple):
    """Number of scores, their sum and the sum of their squares."""

    number: int = 0
    total: float = 0.0
    squares: float = 0.0

    def plus(self, other: Tally) -> Tally:
        """Both together."""
        return Tally(self.number + other.number, self.total + other.total, self.squares + other.squares)


@dataclass(slots=True)
class Scores:
    """Tallies by the start of their step (Unix seconds, a multiple of :data:`STEP`)."""

    steps: dict[int, Tally] = field(default_factory=dict)

    def add(self, at: float, score: float) -> None:
        """Count a score (0 to 1) that came at `at`."""
        self.change(at, Tally(1, score, score * score))

    def knows(self, at: float) -> bool:
        """Whether the step of `at` is kept."""
        return int(at) - int(at) % STEP in self.steps

    def change(self, at: float, by: Tally) -> None:
        """Add sums to the step of `at`, or take them away where they are negative."""
        start = int(at) - int(at) % STEP
        self.steps[start] = self.steps.get(start, Tally()).plus(by)

    def window(self, since: float, until: float) -> Tally:
        """All that came from `since` to `until`, both rounded outwards to whole steps."""
        found = Tally()
        for start, sums in self.steps.items():
            if start + STEP > since and start < until:
                found = found.plus(sums)
        return found

    def drop(self, before: float) -> None:
        """Forget the steps that ended by `before`."""
        for start in [start for start in self.steps if start + STEP <= before]:
            del self.steps[start]
