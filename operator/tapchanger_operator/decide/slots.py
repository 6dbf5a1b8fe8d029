"""Who gets which slot. A user's id is hashed to one of 1000 slots, and each slot belongs to an arm.

A slot is the finest part of the traffic that can be given away, a tenth of a percent. When weights change, slots go from arms
that shrink to arms that grow and no other slot moves, so that a user changes arm only where the weights force it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

SLOTS: Final = 1000
PER_PERCENT: Final = SLOTS // 100


@dataclass(frozen=True)
class Run:
    """Slots from `start` to `end` (not included) that belong to `arm`."""

    arm: str
    start: int
    end: int

    @property
    def size(self) -> int:
        """How many slots."""
        return self.end - self.start


def assign(previous: Sequence[Run], weights: Mapping[str, int]) -> tuple[Run, ...]:
    """All slots by arm for `weights` (percent, 100 in sum), moving as few of the `previous` slots as possible.

    Each arm keeps `min(old, new)` of its slots, so what moves is half the sum of the differences, and no assignment moves
    less. Of an arm that shrinks the shortest runs go first, from their end: that keeps the runs few. Slots that no run of
    `previous` holds, or an arm without a weight, are free. Raises ValueError where the weights don't add up to 100.
    """
    if sum(weights.values()) != 100 or min(weights.values()) < 0:
        raise ValueError(f"weights must be 0 or more and add up to 100: {dict(weights)}")
    wanted = {arm: weight * PER_PERCENT for arm, weight in weights.items()}
    owners: list[str | None] = [None] * SLOTS
    for arm, count in wanted.items():
        for run in sorted((run for run in previous if run.arm == arm), key=lambda run: (-run.size, run.start)):
            kept = min(run.size, count)
            owners[run.start : run.start + kept] = [arm] * kept
            count -= kept
    missing = {arm: count - owners.count(arm) for arm, count in wanted.items()}
    queue = [arm for arm, count in missing.items() for _ in range(count)]
    given = iter(queue)
    return runs([owner if owner is not None else next(given) for owner in owners])


def runs(owners: Sequence[str]) -> tuple[Run, ...]:
    """Neighbours with the same owner as one run."""
    found, start = [], 0
    for owner, group in groupby(owners):
        end = start + sum(1 for _ in group)
        found.append(Run(owner, start, end))
        start = end
    return tuple(found)


def owners_of(assigned: Sequence[Run]) -> list[str]:
    """The owner of each slot in turn."""
    return [run.arm for run in assigned for _ in range(run.size)]


def moved(before: Sequence[Run], after: Sequence[Run]) -> int:
    """How many slots have another owner."""
    return sum(old != new for old, new in zip(owners_of(before), owners_of(after), strict=True))


def lend(assigned: Sequence[Run], arm: str, to: str, percent: int) -> tuple[Run, ...]:
    """Gives the last `percent` of the slots of `arm` to another owner, at least one slot where both have any.

    A larger part holds every smaller one: those who were moved first stay where they are while the part grows.
    """
    owners = owners_of(assigned)
    own = [slot for slot, owner in enumerate(owners) if owner == arm]
    count = max(1, round(len(own) * percent / 100)) if own and percent else 0
    for slot in own[len(own) - count :]:
        owners[slot] = to
    return runs(owners)
