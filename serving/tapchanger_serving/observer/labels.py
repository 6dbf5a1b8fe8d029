"""Whether answers were right, as far as labels have come: tallies of one revision by the time of the answer."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar

from tapchanger_serving.contract.labels import (
    BINS,
    COARSE,
    KEPT,
    OTHER,
    STEP,
    AnsweredLabel,
    ConfidenceBin,
    LabelledSlice,
    LabelWindow,
)

MOST_LABELS: Final = 64
"""Labels of answers, and true ones, that are told apart."""
MOST_SLICES: Final = 64
"""Slices named by feedback that are told apart; the one that was named longest ago makes room."""
MOST_TALLIES: Final = 20_000
"""Tallies of all revisions together (about 1 KiB each); the oldest minutes become hours, then the oldest hours go, early."""
K = TypeVar("K")


class Judged(NamedTuple):
    """One answer with its label. `at` is when it was answered (Unix seconds); `answered` is what, as it is counted;
    `told` says that a server's span told it, `slices` are all that it belongs to. `came` is when the label came.
    """

    at: int
    right: bool
    correction: bool
    confidence: float | None
    answered: str
    told: bool
    slices: tuple[str, ...]
    came: float


class Count(NamedTuple):
    """Labelled answers, the right ones of them, and, where that is counted, the sum of their confidences."""

    labelled: int = 0
    right: int = 0
    confidence: float = 0.0

    def plus(self, labelled: int, right: int, confidence: float = 0.0) -> Count:
        """With more of them."""
        return Count(self.labelled + labelled, self.right + right, self.confidence + confidence)


@dataclass(slots=True)
class Tally:
    """Answers of one span of time; see :class:`tapchanger_serving.contract.labels.LabelWindow`.

    `texts` counts by label what servers told that they answered, `known` which of these were labelled.
    """

    labelled: int = 0
    right: int = 0
    corrections: int = 0
    sure: int = 0
    brier: float = 0.0
    slices: dict[str, Count] = field(default_factory=dict)
    bins: dict[int, Count] = field(default_factory=dict)
    texts: dict[str, int] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    encoded: str | None = field(default=None, compare=False)
    """Made for a snapshot, and thrown away by the next change."""

    def add(self, one: Judged, sign: int = 1) -> None:
        """Count an answer; with a `sign` of -1 take it out again."""
        self.encoded = None
        right = sign * one.right
        self.labelled += sign
        self.right += right
        self.corrections += sign * one.correction
        for name in one.slices:
            _add(self.slices, name, Count(sign, right))
        if one.told:
            self.known[one.answered] = self.known.get(one.answered, 0) + sign
        if one.confidence is not None:
            self.sure += sign
            self.brier += sign * (one.right - one.confidence) ** 2
            number = min(BINS - 1, int(one.confidence * BINS))
            _add(self.bins, number, Count(sign, right, sign * one.confidence))

    def absorb(self, other: Tally) -> None:
        """Add all of `other`."""
        self.encoded = None
        self.labelled += other.labelled
        self.right += other.right
        self.corrections += other.corrections
        self.sure += other.sure
        self.brier += other.brier
        for name, count in other.slices.items():
            _add(self.slices, name, count)
        for number, count in other.bins.items():
            _add(self.bins, number, count)
        for mine, theirs in ((self.texts, other.texts), (self.known, other.known)):
            for label, number in theirs.items():
                mine[label] = mine.get(label, 0) + number

    def told(self) -> LabelWindow:
        """In the contract's words."""
        return LabelWindow(
            labelled=self.labelled,
            right=self.right,
            corrections=self.corrections,
            sure=self.sure,
            brier=max(0.0, self.brier),
            slices=tuple(
                LabelledSlice(name=name, labelled=one.labelled, right=one.right)
                for name, one in sorted(self.slices.items())
                if one.labelled
            ),
            answered=tuple(
                AnsweredLabel(label=label, texts=number, labelled=self.known.get(label, 0))
                for label, number in sorted(self.texts.items())
            ),
            bins=tuple(
                ConfidenceBin(number=number, labelled=one.labelled, right=one.right, confidence=one.confidence)
                for number, one in sorted(self.bins.items())
                if one.labelled
            ),
        )

    def row(self) -> list[Any]:
        """All of it, for JSON."""
        return [
            *(self.labelled, self.right, self.corrections, self.sure, self.brier),
            [[name, one.labelled, one.right] for name, one in self.slices.items()],
            [[number, *one] for number, one in self.bins.items()],
            self.texts,
            self.known,
        ]

    @classmethod
    def of(cls, row: list[Any]) -> Tally:
        """What :meth:`row` wrote. Raises ValueError, TypeError or AttributeError for anything else."""
        labelled, right, corrections, sure, brier, slices, bins, texts, known = row
        return cls(
            int(labelled),
            int(right),
            int(corrections),
            int(sure),
            float(brier),
            {str(name): Count(int(all_), int(good)) for name, all_, good in slices},
            {int(number): Count(int(all_), int(good), float(sure_)) for number, all_, good, sure_ in bins},
            {str(label): int(number) for label, number in texts.items()},
            {str(label): int(number) for label, number in known.items()},
        )


def _add(counts: dict[K, Count], key: K, more: Count) -> None:
    counts[key] = counts.get(key, Count()).plus(*more)


@dataclass(slots=True)
class Labels:
    """Tallies of one revision: fine ones by the minute of the answer, older ones by its hour (Unix seconds).

    `came` counts right and wrong ones since the observer began, as their labels came.
    """

    minutes: dict[int, Tally] = field(default_factory=dict)
    hours: dict[int, Tally] = field(default_factory=dict)
    coarse_before: int = 0
    named: OrderedDict[str, None] = field(default_factory=OrderedDict)
    known: dict[str, None] = field(default_factory=dict)
    came: list[int] = field(default_factory=lambda: [0, 0])

    def tell(self, at: float, labels: Iterable[str]) -> None:
        """Count what a server told of the texts of a request that was answered at `at`."""
        tally = self._at(int(at))
        tally.encoded = None
        for label in labels:
            word = self.word(label)
            tally.texts[word] = tally.texts.get(word, 0) + 1

    def word(self, label: str) -> str:
        """The label, or what stands for it where there are too many."""
        if label not in self.known:
            if len(self.known) >= MOST_LABELS:
                return OTHER
            self.known[label] = None
        return label

    def slices(self, named: Iterable[tuple[str, str]]) -> tuple[str, ...]:
        """The names of slices that feedback named; those named longest ago are forgotten where there are too many."""
        found = tuple(f"{name}={value}" for name, value in named)
        for name in found:
            self.named[name] = None
            self.named.move_to_end(name)
            if len(self.named) > MOST_SLICES:
                gone, _ = self.named.popitem(last=False)
                for tally in (*self.minutes.values(), *self.hours.values()):
                    if tally.slices.pop(gone, None):
                        tally.encoded = None
        return found

    def add(self, one: Judged) -> None:
        """Count an answer with its label."""
        self._at(one.at).add(one)
        self.came[not one.right] += 1

    def take_out(self, one: Judged) -> None:
        """Take an answer out again, as far as it is still kept; its slices too, as far as these are."""
        tally = self.hours.get(one.at - one.at % COARSE) if one.at < self.coarse_before else None
        tally = tally or self.minutes.get(one.at - one.at % STEP)
        if tally is not None:
            kept = tuple(name for name in one.slices if name in tally.slices)
            tally.add(one._replace(slices=kept), -1)

    def window(self, since: float, until: float) -> Tally:
        """All that was answered from `since` to `until`: rounded outwards to minutes, of what is older to whole hours that lie
        between them, so that nothing from before a canary is laid beside it.
        """
        total = Tally()
        for start, tally in self.minutes.items():
            if start + STEP > since and start < until:
                total.absorb(tally)
        for start, tally in self.hours.items():
            if start >= since and start < until:
                total.absorb(tally)
        return total

    def size(self) -> int:
        """How many tallies are kept."""
        return len(self.minutes) + len(self.hours)

    def tidy(self, fine_from: float, now: float) -> None:
        """Make hours of the minutes that ended by `fine_from`, and forget what is older than what is kept."""
        self.coarsen(fine_from)
        for start in [start for start in self.hours if start + COARSE <= now - KEPT]:
            del self.hours[start]

    def coarsen(self, before: float) -> None:
        """Make hours of the minutes of all hours that ended by `before`."""
        edge = int(before) - int(before) % COARSE
        self.coarse_before = max(self.coarse_before, edge)
        for start in [start for start in self.minutes if start < self.coarse_before]:
            self.hours.setdefault(start - start % COARSE, Tally()).absorb(self.minutes.pop(start))

    def _at(self, at: int) -> Tally:
        if at < self.coarse_before:
            return self.hours.setdefault(at - at % COARSE, Tally())
        return self.minutes.setdefault(at - at % STEP, Tally())

    def totals(self) -> tuple[int, int]:
        """Labelled answers that are kept, and right ones among them."""
        kept = (*self.minutes.values(), *self.hours.values())
        return sum(one.labelled for one in kept), sum(one.right for one in kept)

    def dumps(self) -> str:
        """All of it as JSON. What did not change since the last time is not encoded again."""
        steps = []
        for kept in (self.minutes, self.hours):
            for tally in kept.values():
                if tally.encoded is None:
                    tally.encoded = json.dumps(tally.row(), separators=(",", ":"))
            steps.append(",".join(f"[{start},{tally.encoded}]" for start, tally in kept.items()))
        words = f'"named":{json.dumps(list(self.named))},"known":{json.dumps(list(self.known))}'
        return f'{{"minutes":[{steps[0]}],"hours":[{steps[1]}],"coarse":{self.coarse_before},{words}}}'

    @classmethod
    def of(cls, row: dict[str, Any]) -> Labels:
        """What :meth:`dumps` wrote. Raises ValueError, TypeError, KeyError or AttributeError for anything else."""
        return cls(
            {int(start): Tally.of(one) for start, one in row["minutes"]},
            {int(start): Tally.of(one) for start, one in row["hours"]},
            int(row["coarse"]),
            OrderedDict((str(name), None) for name in row["named"]),
            {str(label): None for label in row["known"]},
        )


def squeeze(everyone: Iterable[Labels], now: float, most: int = MOST_TALLIES) -> None:
    """Make room where all together keep too much: first hours of all minutes of past hours, then without the oldest of them."""
    kept = list(everyone)
    if sum(one.size() for one in kept) > most:
        for one in kept:
            one.coarsen(now)
    excess = sum(one.size() for one in kept) - most
    by_age = sorted(((start, at) for at, one in enumerate(kept) for start in one.hours), key=lambda pair: pair[0])
    for start, at in by_age[: max(0, excess)]:
        del kept[at].hours[start]
