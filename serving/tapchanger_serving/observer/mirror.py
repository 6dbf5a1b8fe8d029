"""Answers of two revisions to the same requests: pairs of servers' spans become tallies, by time in steps of ten seconds."""

from __future__ import annotations

import json
import math
import operator
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tapchanger_serving.contract import mirror
from tapchanger_serving.observer import sketch
from tapchanger_serving.observer.breakdown import length_class
from tapchanger_serving.observer.sketch import Sketch

STEP: Final = 10
MOST_WAITING: Final = 10_000
"""Copied requests of which one server has told and the other not yet; the oldest are forgotten."""
MOST_KINDS: Final = 256
"""Labels, and flips, that a tally tells apart; further ones count as :data:`OTHER`."""
OTHER: Final = "(other)"
LONGEST_LABEL: Final = 128
EXEMPLARS: Final = 5


class Told(NamedTuple):
    """What one server told of a copied request: its revision, when it ended (Unix seconds), how long it took since the router
    got the request (seconds), its tokens (0 if unknown), and what it answered (None: nothing).
    """

    revision: str
    end: float
    seconds: float
    tokens: int
    answers: tuple[Any, ...] | None
    labelled: bool


def read(text: str | None) -> tuple[tuple[Any, ...] | None, bool]:
    """The answers in an attribute, and whether they are labels. Raises ValueError with a plain message for anything else."""
    if text is None:
        return None, False
    try:
        found = json.loads(text)
        ((kind, rows),) = found.items()
    except (ValueError, AttributeError, RecursionError):
        raise ValueError("tapchanger.answers: not an object with one list") from None
    if not isinstance(rows, list) or len(rows) > mirror.MOST_ROWS:
        raise ValueError(f"tapchanger.answers: expected a list of at most {mirror.MOST_ROWS}")
    if kind == mirror.SKETCHES and all(_is_sketch(row) for row in rows):
        return tuple(tuple(row) for row in rows), False
    if kind in (mirror.LABELS, mirror.DIGESTS) and all(isinstance(row, str) for row in rows):
        return tuple(row[:LONGEST_LABEL] for row in rows), kind == mirror.LABELS
    raise ValueError(f"tapchanger.answers: {str(kind)[:32]!r} with answers of another kind")


def _is_sketch(row: Any) -> bool:
    return isinstance(row, list) and 0 < len(row) <= 256 and all(type(value) is int for value in row)


def alike(one: Any, other: Any) -> bool:
    """Whether two answers to a text are the same: equal labels or entities, or embeddings of almost one direction."""
    if isinstance(one, str) or isinstance(other, str) or len(one) != len(other):
        return bool(one == other)
    lengths = math.hypot(*one) * math.hypot(*other)
    return bool(sum(map(operator.mul, one, other)) >= mirror.SAME_COSINE * lengths) if lengths else bool(one == other)


@dataclass(slots=True)
class Tally:
    """Pairs of one span of time; see :class:`tapchanger_serving.contract.windows.MirrorWindow`.

    `texts` and `same` count the texts and those of them that were answered alike, by length class of the request (a number)
    and by stable's label (a string).
    """

    requests: int = 0
    canary_failed: int = 0
    stable_failed: int = 0
    compared: int = 0
    agreement: float = 0.0
    rows: int = 0
    rows_alike: int = 0
    canary_latency: Sketch = field(default_factory=dict)
    stable_latency: Sketch = field(default_factory=dict)
    flips: Counter[tuple[str, str]] = field(default_factory=Counter)
    texts: Counter[int | str] = field(default_factory=Counter)
    same: Counter[int | str] = field(default_factory=Counter)
    exemplars: tuple[str, ...] = ()

    def add(self, stable: Told, canary: Told, trace_id: str) -> None:
        """Count a request that at least one of both answered. One that got no answer is a failure and no latency."""
        self.requests += 1
        if stable.answers is None:
            self.stable_failed += 1
        else:
            sketch.add(self.stable_latency, stable.seconds)
        if canary.answers is None:
            self.canary_failed += 1
        else:
            sketch.add(self.canary_latency, canary.seconds)
        if stable.answers and canary.answers:
            self._compare(stable, canary, trace_id)

    def _compare(self, stable: Told, canary: Told, trace_id: str) -> None:
        both = list(zip(stable.answers or (), canary.answers or (), strict=False))
        same = [alike(*pair) for pair in both]
        self.compared += 1
        self.agreement += sum(same) / len(both)
        self.rows += len(both)
        self.rows_alike += sum(same)
        tokens = length_class(max(stable.tokens, canary.tokens))
        for (theirs, mine), equal in zip(both, same, strict=True):
            kinds: list[int | str] = [tokens] if stable.tokens or canary.tokens else []
            if stable.labelled and canary.labelled:
                kinds.append(self._known(self.texts, theirs))
                if not equal:
                    flip = (theirs, mine)
                    self.flips[flip if flip in self.flips or len(self.flips) < MOST_KINDS else (OTHER, OTHER)] += 1
            for kind in kinds:
                self.texts[kind] += 1
                self.same[kind] += equal
        if not all(same) and len(self.exemplars) < EXEMPLARS:
            self.exemplars = (*self.exemplars, trace_id)

    @staticmethod
    def _known(counted: Counter[int | str], label: str) -> str:
        return label if label in counted or len(counted) < MOST_KINDS else OTHER

    def absorb(self, other: Tally) -> None:
        """Add all of `other`."""
        self.requests += other.requests
        self.canary_failed += other.canary_failed
        self.stable_failed += other.stable_failed
        self.compared += other.compared
        self.agreement += other.agreement
        self.rows += other.rows
        self.rows_alike += other.rows_alike
        sketch.merge(self.canary_latency, other.canary_latency)
        sketch.merge(self.stable_latency, other.stable_latency)
        self.flips.update(other.flips)
        self.texts.update(other.texts)
        self.same.update(other.same)
        self.exemplars = (*self.exemplars, *other.exemplars)[-EXEMPLARS:]


@dataclass(slots=True)
class Mirrors:
    """Tallies of one canary, by the revision that answered the originals, by the start of their step (Unix seconds)."""

    steps: dict[str, dict[int, Tally]] = field(default_factory=dict)

    def add(self, stable: Told, canary: Told, trace_id: str) -> None:
        """Count a pair, at the time at which the later of both ended."""
        at = int(max(stable.end, canary.end))
        of_stable = self.steps.setdefault(stable.revision, {})
        of_stable.setdefault(at - at % STEP, Tally()).add(stable, canary, trace_id)

    def window(self, since: float, until: float) -> dict[str, Tally]:
        """All from `since` to `until`, both rounded outwards to whole steps, by the stable revision."""
        found: dict[str, Tally] = {}
        for stable, steps in self.steps.items():
            total = Tally()
            for start, tally in steps.items():
                if start + STEP > since and start < until:
                    total.absorb(tally)
            if total.requests:
                found[stable] = total
        return found

    def drop(self, before: float) -> None:
        """Forget the steps that ended by `before`."""
        for stable, steps in list(self.steps.items()):
            for start in [start for start in steps if start + STEP <= before]:
                del steps[start]
            if not steps:
                del self.steps[stable]


class Meeting:
    """Brings the two halves of a copied request together, in whatever order and payload they come."""

    def __init__(self, limit: int = MOST_WAITING) -> None:
        self._limit = limit
        self._waiting: OrderedDict[tuple[Sequence[str], bytes], Told] = OrderedDict()

    def offer(self, canary: tuple[str, str, str], trace_id: bytes, told: Told) -> tuple[Told, Told] | None:
        """What `told` and the other half say, stable's first, once both are there and one of them is an answer.

        `canary` is namespace, deployment and revision that got the copy.
        """
        key = (canary, trace_id)
        first = self._waiting.pop(key, None)
        if first is None or (first.revision == canary[2]) == (told.revision == canary[2]):
            self._waiting[key] = told
            if len(self._waiting) > self._limit:
                self._waiting.popitem(last=False)
            return None
        stable, copy = (first, told) if told.revision == canary[2] else (told, first)
        return None if stable.answers is None and copy.answers is None else (stable, copy)
