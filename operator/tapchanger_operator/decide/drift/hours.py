"""What like hours looked like before: the reference of a season.

Texts of an hour are compared with those of the same hour of earlier days, or of earlier weeks, once that was seen often enough,
and with the plain reference until then. Counts are in the plain reference's bins, so that the bets stay the same ones and what
they have won goes on. Only the first so many occurrences of an hour count: what went on learning would learn a slow drift too.

An hour is in UTC. While it lasts its counts are in the monitor's memory; afterwards they are kept in a ConfigMap, of which
:meth:`Hours.dumps` makes the text. The hour that ended last stands apart there, so that a step that is taken again after a
restart is compared with the same counts as before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tapchanger_operator import names
from tapchanger_operator.api.drift import Like
from tapchanger_operator.decide.drift.coarse import Coarse

VERSION: Final = 1
HOUR: Final = 3600
_MONDAY: Final = 96 * HOUR
"""Unix time of a Monday's first hour."""
FEWEST_TEXTS: Final = 200
"""Texts of like hours that make a reference, of each signal."""
SEEN: Final[Mapping[Like, int]] = {"hours": 3, "hoursOfWeek": 2}
"""Occurrences of an hour that make a reference."""
KEPT: Final[Mapping[Like, int]] = {"hours": 7, "hoursOfWeek": 4}
"""Occurrences that are counted; later ones change nothing."""
SLOTS: Final[Mapping[Like, int]] = {"hours": 24, "hoursOfWeek": 168}
_FAULTS: Final = (KeyError, TypeError, ValueError, IndexError, AttributeError)

Counts = Mapping[str, tuple[int, ...]]
"""Texts by signal and coarse bin."""


@dataclass(frozen=True)
class Hour:
    """One hour that began at `start` (Unix seconds)."""

    start: int
    counts: Counts = field(default_factory=dict)

    def plus(self, counts: Mapping[str, Sequence[int]]) -> Hour:
        """With the texts of a step more."""
        return Hour(self.start, added(self.counts, counts))

    def wire(self) -> list[Any]:
        """As JSON has it."""
        return [self.start, {name: list(found) for name, found in self.counts.items()}]

    @staticmethod
    def read(told: Sequence[Any]) -> Hour:
        """From what :meth:`wire` wrote. Raises ValueError, TypeError or AttributeError."""
        start, counts = told
        return Hour(int(start), _counts(counts))


@dataclass(frozen=True)
class Slot:
    """An hour of the day or of the week: how often it was seen, and the texts of all these times."""

    times: int = 0
    counts: Counts = field(default_factory=dict)


@dataclass(frozen=True)
class Hours:
    """All hours of a season. `key` names what the counts are of: those of another are worth nothing. `newest` is the hour that
    ended last, in no slot yet.
    """

    like: Like
    key: str
    slots: Mapping[int, Slot] = field(default_factory=dict)
    newest: Hour | None = None

    def plus(self, ended: Hour) -> Hours:
        """With an hour that has ended. One that is in already changes nothing."""
        if self.newest is not None and ended.start <= self.newest.start:
            return self
        return replace(self, slots=self._settled(), newest=ended)

    def before(self, start: int) -> Slot:
        """What was seen of the hour that begins at `start`, without itself."""
        newest = self.newest
        slots = self._settled() if newest is not None and newest.start < start else self.slots
        return slots.get(slot(self.like, start), Slot())

    def known(self) -> int:
        """Hours that make a reference."""
        return sum(one.times >= SEEN[self.like] for one in self._settled().values())

    def dumps(self) -> str:
        """JSON."""
        told = {
            "version": VERSION,
            "like": self.like,
            "key": self.key,
            "slots": {str(number): [one.times, _lists(one.counts)] for number, one in sorted(self.slots.items())},
            "newest": self.newest and self.newest.wire(),
        }
        return json.dumps(told, separators=(",", ":"))

    def _settled(self) -> Mapping[int, Slot]:
        if self.newest is None:
            return self.slots
        number = slot(self.like, self.newest.start)
        known = self.slots.get(number, Slot())
        if known.times >= KEPT[self.like]:
            return self.slots
        return {**self.slots, number: Slot(known.times + 1, added(known.counts, self.newest.counts))}


def read(text: str | None, like: Like, key: str) -> Hours:
    """From what :meth:`Hours.dumps` wrote; nothing where that is of another reference or release, or can't be read."""
    try:
        told = json.loads(text or "{}")
        if (told["version"], told["like"], told["key"]) != (VERSION, like, key):
            return Hours(like, key)
        slots = {int(number): Slot(int(times), _counts(counts)) for number, (times, counts) in told["slots"].items()}
        return Hours(like, key, slots, Hour.read(told["newest"]) if told["newest"] else None)
    except _FAULTS:
        return Hours(like, key)


def key_of(memory_key: str, reference: Mapping[str, Coarse]) -> str:
    """Names what is compared, and in which bins."""
    return names.content_hash([memory_key, {name: list(one.ends) for name, one in reference.items()}], 16)


def slot(like: Like, start: int) -> int:
    """The number of an hour: of the day from midnight, or of the week from Monday's midnight, both in UTC."""
    return (start - _MONDAY if like == "hoursOfWeek" else start) // HOUR % SLOTS[like]


def begin(at: int) -> int:
    """When the hour of a time began (Unix seconds)."""
    return at - at % HOUR


def like_hours(reference: Mapping[str, Coarse], hours: Hours, at: int) -> tuple[dict[str, Coarse], Slot | None]:
    """The reference for a step that began at `at`, and what it is made of; the plain one where that hour is little known."""
    seen = hours.before(begin(at))
    if seen.times < SEEN[hours.like]:
        return dict(reference), None
    found, used = {}, False
    for name, coarse in reference.items():
        counts = seen.counts.get(name, ())
        enough = len(counts) == len(coarse.counts) and sum(counts) >= FEWEST_TEXTS
        found[name] = replace(coarse, counts=counts) if enough else coarse
        used = used or enough
    return found, seen if used else None


def added(some: Mapping[str, Sequence[int]], more: Mapping[str, Sequence[int]]) -> Counts:
    """Counts of both."""
    found = {name: tuple(counts) for name, counts in some.items()}
    for name, counts in more.items():
        before = found.get(name, (0,) * len(counts))
        found[name] = tuple(a + b for a, b in zip(before, counts, strict=True))
    return found


def _lists(counts: Counts) -> dict[str, list[int]]:
    return {name: list(found) for name, found in counts.items()}


def _counts(told: Mapping[str, Any]) -> Counts:
    return {str(name): tuple(int(count) for count in found) for name, found in told.items()}
