"""What a step is compared with: the reference, or hours like its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tapchanger_operator.api.drift import DriftSpec, DriftStatus, Like
from tapchanger_operator.decide.drift import hours
from tapchanger_operator.decide.drift.coarse import Coarse
from tapchanger_operator.decide.drift.hours import Hour, Hours, Slot
from tapchanger_operator.decide.drift.memory import Memory


@dataclass(frozen=True)
class Compared:
    """What a step was compared with: the plain reference, or, where `slot` is there, an hour like its own. `hours` are all hours,
    None where they aren't compared.
    """

    reference: Mapping[str, Coarse]
    slot: Slot | None = None
    hours: Hours | None = None


def compared(
    like: Literal["reference", Like],
    memory: Memory,
    before: Compared,
    binned: Mapping[str, Sequence[int]],
    at: int,
    kept: str | None,
) -> tuple[Memory, Compared]:
    """A step that began at `at`: its texts counted in the hour they are of, and what they are compared with. `before` is what the
    step before was compared with, `kept` what was kept of like hours.
    """
    if like == "reference":
        return memory, Compared(memory.reference)
    known = before.hours or hours.read(kept, like, hours.key_of(memory.key, memory.reference))
    start = hours.begin(at)
    if memory.hour is None or memory.hour.start != start:
        memory = replace(memory, hour=Hour(start), ended=_ended(memory, known))
    if memory.ended is not None:
        known = known.plus(memory.ended)
    memory = replace(memory, hour=memory.hour and memory.hour.plus(binned))
    reference, slot = hours.like_hours(memory.reference, known, at)
    return memory, Compared(reference, slot, known)


def _ended(memory: Memory, known: Hours) -> Hour | None:
    """The hour that ended last and is worth keeping: not one in which texts were unlike those of its like."""
    if memory.hour is None:
        return memory.ended
    unlike = memory.monitor.alarmed and hours.like_hours(memory.reference, known, memory.hour.start)[1] is not None
    return memory.ended if unlike else memory.hour


def next_hours(spec: DriftSpec, record: DriftStatus, kept: str | None) -> str | None:
    """What is to be kept of like hours now; None where they aren't compared, or nothing is known yet."""
    memory, like = Memory.read(record.state), spec.compare.like
    if like == "reference":
        return None
    if memory is None or memory.ended is None or not memory.reference:
        return kept
    return hours.read(kept, like, hours.key_of(memory.key, memory.reference)).plus(memory.ended).dumps()
