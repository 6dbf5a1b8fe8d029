"""What happened to one revision in one span of time, in a form that merges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tapchanger_serving.contract.outcome import Outcome
from tapchanger_serving.observer import sketch
from tapchanger_serving.observer.breakdown import Breakdown, Stage
from tapchanger_serving.observer.sketch import Sketch

EXEMPLARS: Final = 5
SLOW_EXEMPLARS: Final = 2
"""How many a bucket keeps where nothing failed, while it counts; merged ones keep :data:`EXEMPLARS`."""


class Request(NamedTuple):
    """One request as its user felt it: when it ended (Unix seconds), how long it took (seconds) and how it went."""

    end: float
    seconds: float
    outcome: Outcome
    trace_id: bytes


class Kept(NamedTuple):
    """An exemplar. Compared as a tuple, the worse one is the larger: failed before slow, slower before slow."""

    failed: bool
    seconds: float
    trace_id: bytes
    code: str | None
    end: float


class Over(NamedTuple):
    """Successful requests over one threshold: how many, and the end of the first (None where there is none)."""

    number: int
    first: float | None


def earlier(a: float | None, b: float | None) -> float | None:
    """The smaller of two times, either of which may be unknown."""
    if a is None or b is None:
        return b if a is None else a
    return min(a, b)


@dataclass(slots=True)
class Bucket:
    """Counts of one span of time.

    `good` and `failed` are latency sketches of the requests that did not fail and of those that did. `over` counts the
    good ones over thresholds exactly, from the first request of the bucket on; other thresholds come from the sketch. `parts`
    is there once a server has told something.
    """

    requests: int = 0
    unavailable: int = 0
    good: Sketch = field(default_factory=dict)
    failed: Sketch = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    over: dict[float, Over] = field(default_factory=dict)
    worst: tuple[Kept, ...] = ()
    first: float | None = None
    last: float | None = None
    first_failed: float | None = None
    parts: Breakdown | None = None

    @classmethod
    def watching(cls, thresholds: tuple[float, ...]) -> Bucket:
        """An empty bucket that counts these thresholds exactly."""
        return cls(over=dict.fromkeys(thresholds, Over(0, None)))

    def add(self, request: Request) -> None:
        """Count one request. The order of calls does not matter."""
        end, seconds, outcome, _ = request
        self.requests += 1
        if self.first is None or end < self.first:
            self.first = end
        if self.last is None or end > self.last:
            self.last = end
        if outcome.failed:
            self._add_failure(request)
        else:
            sketch.add(self.good, seconds)
            for threshold, (number, first) in self.over.items():
                if seconds > threshold:
                    self.over[threshold] = Over(number + 1, earlier(first, end))
        if len(self.worst) < SLOW_EXEMPLARS or outcome.failed or seconds >= self.worst[-1].seconds:
            self._keep(request)

    def _keep(self, request: Request) -> None:
        failed = request.outcome.failed
        kept = Kept(failed, request.seconds, request.trace_id, request.outcome.code if failed else None, request.end)
        worst = sorted((*self.worst, kept), reverse=True)[:EXEMPLARS]
        self.worst = tuple(one for place, one in enumerate(worst) if one.failed or place < SLOW_EXEMPLARS)

    def _add_failure(self, request: Request) -> None:
        code = request.outcome.code
        self.unavailable += 1
        self.codes[code] = self.codes.get(code, 0) + 1
        self.first_failed = earlier(self.first_failed, request.end)
        sketch.add(self.failed, request.seconds)

    def add_stage(self, stage: Stage) -> None:
        """Count what a server says of one request."""
        if self.parts is None:
            self.parts = Breakdown()
        self.parts.every.add(stage)

    def join(self, stage: Stage, seconds: float, *, failed: bool) -> None:
        """Count what the router says of a request whose `stage` was added: how long it took and whether it failed."""
        if self.parts is None:
            self.parts = Breakdown()
        self.parts.join(stage, seconds, failed=failed, thresholds=tuple(self.over))

    def over_threshold(self, threshold: float) -> Over:
        """Good requests over `threshold`: exact where it was watched, else from the sketch (the time to the bucket)."""
        exact = self.over.get(threshold)
        if exact is not None:
            return exact
        number = sketch.count_over(self.good, threshold)
        return Over(number, self.first if number else None)

    def absorb(self, other: Bucket) -> None:
        """Add all of `other`: the same as if its requests had been added here, but that more exemplars are kept."""
        over = {}
        for threshold in {**self.over, **other.over}:
            mine, theirs = self.over_threshold(threshold), other.over_threshold(threshold)
            over[threshold] = Over(mine.number + theirs.number, earlier(mine.first, theirs.first))
        self.over = over
        self.requests += other.requests
        self.unavailable += other.unavailable
        sketch.merge(self.good, other.good)
        sketch.merge(self.failed, other.failed)
        for code, count in other.codes.items():
            self.codes[code] = self.codes.get(code, 0) + count
        self.worst = tuple(sorted((*self.worst, *other.worst), reverse=True)[:EXEMPLARS])
        self.first = earlier(self.first, other.first)
        self.last = other.last if self.last is None or (other.last or 0.0) > self.last else self.last
        self.first_failed = earlier(self.first_failed, other.first_failed)
        if other.parts is not None:
            if self.parts is None:
                self.parts = Breakdown()
            self.parts.absorb(other.parts)
