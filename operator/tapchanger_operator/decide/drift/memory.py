"""What is kept from one look to the next, in `status.drift.state`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tapchanger_operator.decide.drift.accuracy import Sureness
from tapchanger_operator.decide.drift.coarse import Coarse
from tapchanger_operator.decide.drift.hours import Hour
from tapchanger_operator.decide.drift.monitor import Monitor, Track
from tapchanger_serving.contract.drift import DriftStep, Reference, confidence_of

VERSION: Final = 2
RECENT: Final = 500
"""Texts of late that figures are about, as far as a text counts for less with every later one."""
_FAULTS: Final = (KeyError, TypeError, ValueError, IndexError, AttributeError)


@dataclass(frozen=True)
class Learned:
    """The first texts of a revision, in fine bins, while they become the reference."""

    texts: int = 0
    counts: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)

    def plus(self, step: DriftStep) -> Learned:
        """With the texts of one step more."""
        counts = {name: Counter(found) for name, found in self.counts.items()}
        for name, found in step.counts.items():
            counts.setdefault(name, Counter()).update(found)
        labels = Counter(self.labels)
        labels.update(step.labels)
        return Learned(self.texts + step.texts, counts, labels)


@dataclass(frozen=True)
class Recent:
    """Texts of late by signal and coarse bin, each worth less than the one after it, and how sure the answers were."""

    counts: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    sure: Sureness = field(default_factory=Sureness)

    def plus(self, step: Mapping[str, Sequence[int]], fine: Mapping[int, int], texts: int) -> Recent:
        """With a step's texts by signal and bin; `fine` are the fine bins of confidence."""
        kept = max(0.0, 1.0 - texts / RECENT)
        counts = dict(self.counts)
        for name, found in step.items():
            before = counts.get(name, (0.0,) * len(found))
            counts[name] = tuple(round(kept * a + b, 1) for a, b in zip(before, found, strict=True))
        values = [(confidence_of(number), count) for number, count in fine.items()]
        sure = Sureness(
            round(kept * self.sure.texts + sum(count for _, count in values), 2),
            round(kept * self.sure.total + sum(count * value for value, count in values), 3),
            round(kept * self.sure.squares + sum(count * value * value for value, count in values), 3),
        )
        return Recent(counts, sure)


@dataclass(frozen=True)
class Memory:
    """All of it. `key` names what is compared with what: another key starts anew. `until` is up to when steps were taken.

    `reference` is empty while it is learned; `known` is what the build said of it, None where traffic made it. Where like hours
    are compared, `hour` is the present one and `ended` the one that ended last.
    """

    key: str
    until: int
    reference: Mapping[str, Coarse] = field(default_factory=dict)
    known: Reference | None = None
    learned: Learned = field(default_factory=Learned)
    monitor: Monitor = field(default_factory=Monitor)
    recent: Recent = field(default_factory=Recent)
    texts: int = 0
    repeats: int = 0
    hour: Hour | None = None
    ended: Hour | None = None

    def to_dict(self) -> dict[str, Any]:
        """As status has it. Of a reference that the build made, only what is needed later."""
        known = self.known and self.known.model_copy(update={"counts": {}, "labels": {}})
        return {
            "version": VERSION,
            "key": self.key,
            "until": self.until,
            "reference": {name: coarse.wire() for name, coarse in self.reference.items()},
            **({"known": known.model_dump(mode="json", by_alias=True, exclude_defaults=True)} if known else {}),
            "learned": _told(self.learned),
            "tracks": {name: track.wire() for name, track in self.monitor.tracks.items()},
            "alarmed": self.monitor.alarmed,
            "recent": {name: list(counts) for name, counts in self.recent.counts.items()},
            "sure": [self.recent.sure.texts, self.recent.sure.total, self.recent.sure.squares],
            "texts": self.texts,
            "repeats": self.repeats,
            **({"hour": self.hour.wire()} if self.hour else {}),
            **({"ended": self.ended.wire()} if self.ended else {}),
        }

    @staticmethod
    def read(told: Mapping[str, Any]) -> Memory | None:
        """From what :meth:`to_dict` wrote; None where there is nothing that this release can read, so that it starts anew."""
        try:
            if told["version"] != VERSION:
                return None
            return Memory(
                key=str(told["key"]),
                until=int(told["until"]),
                reference={name: Coarse.read(name, one) for name, one in told["reference"].items()},
                known=_known(told.get("known")),
                learned=_untold(told["learned"]),
                monitor=Monitor({name: Track.read(one) for name, one in told["tracks"].items()}, bool(told["alarmed"])),
                recent=Recent(
                    {name: tuple(float(x) for x in counts) for name, counts in told["recent"].items()},
                    Sureness(*(float(x) for x in told["sure"])),
                ),
                texts=int(told["texts"]),
                repeats=int(told["repeats"]),
                hour=Hour.read(told["hour"]) if "hour" in told else None,
                ended=Hour.read(told["ended"]) if "ended" in told else None,
            )
        except _FAULTS:
            return None

    def counted(self, step: DriftStep) -> Memory:
        """With the numbers of one step more."""
        return replace(self, texts=self.texts + step.texts, repeats=self.repeats + step.repeats)


def _known(told: Mapping[str, Any] | None) -> Reference | None:
    return None if told is None else Reference.model_validate({"counts": {}, **told})


def _told(learned: Learned) -> dict[str, Any]:
    if not learned.texts:
        return {}
    counts = {name: {str(number): count for number, count in found.items()} for name, found in learned.counts.items()}
    return {"texts": learned.texts, "counts": counts, "labels": dict(learned.labels)}


def _untold(told: Mapping[str, Any]) -> Learned:
    if not told:
        return Learned()
    counts = {
        name: {int(number): int(count) for number, count in found.items()} for name, found in told["counts"].items()
    }
    return Learned(int(told["texts"]), counts, {str(name): int(count) for name, count in told["labels"].items()})
