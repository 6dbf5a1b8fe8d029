"""From a Collector's counters to what users felt of each revision, in the observer's words."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from tapchanger_operator.observe import promql
from tapchanger_operator.observe.promql import AnswerError, Line, Sample, Span
from tapchanger_serving.contract.outcome import Outcome, judge
from tapchanger_serving.contract.ranks import ranks
from tapchanger_serving.contract.windows import Exemplar, Interval, LatencyCount, Quantiles, RevisionWindow

EXEMPLARS: Final = 5
_SAME: Final = 1e-9
_WHOLE: Final = 1e-3


class Group(NamedTuple):
    """Requests of one revision that ended alike, by the labels that say how; a label that is missing is empty."""

    revision: str
    http_status: str
    grpc_status: str
    flags: str
    grpc: str

    @property
    def outcome(self) -> Outcome:
        """Raises ValueError where a status is no number."""
        return judge(self.http_status, self.grpc_status or None, self.flags, grpc=self.grpc == "true")


Counts = Mapping[Group, Mapping[float, int]]
"""By group and upper edge of a bucket (seconds), the requests up to it; the last edge is infinite."""


class Reading(NamedTuple):
    """What one answer says: `scraped` is False where nobody looked at the start, so that the counters there aren't known."""

    start: dict[tuple[Group, float], float]
    end: dict[tuple[Group, float], float]
    series: dict[tuple[Group, float], int]
    reset: bool
    scraped: bool
    down: int
    fresh: float | None


def read(samples: Iterable[Sample]) -> Reading:
    """Sorts an answer to :func:`promql.counts` by its terms."""
    tables: dict[str, dict[tuple[Group, float], float]] = defaultdict(dict)
    single: dict[str, float] = {}
    for labels, value in samples:
        term = labels.get(promql.TERM, "")
        if term in (promql.START, promql.END, promql.SERIES):
            tables[term][group_of(labels), edge_of(labels)] = value
        else:
            single[term] = value
    return Reading(
        tables[promql.START],
        tables[promql.END],
        {key: int(value) for key, value in tables[promql.SERIES].items()},
        promql.RESETS in single,
        promql.SCRAPED in single,
        int(single.get(promql.DOWN, 0)),
        single.get(promql.FRESH),
    )


def group_of(labels: Mapping[str, str]) -> Group:
    """The group of a series."""
    return Group(*(labels.get(label, "") for label in promql.GROUP))


def edge_of(labels: Mapping[str, str]) -> float:
    """The upper edge of a series' bucket (seconds). Raises AnswerError."""
    try:
        return float(labels[promql.EDGE])
    except (KeyError, ValueError):
        raise AnswerError(f"a bucket ends at {labels.get(promql.EDGE)!r}, expected a number of seconds") from None


def simple(reading: Reading) -> Counts | None:
    """Requests of a window in which every counter went on from its start; None where one didn't.

    A series that is new counts from zero: somebody looked at the start and it wasn't there.
    """
    if reading.reset or not reading.scraped:
        return None
    grown = {key: value - reading.start.get(key, 0.0) for key, value in reading.end.items()}
    if any(value < 0 for value in grown.values()):
        return None
    return _table(grown)


def thorough(lines: Iterable[Line], span: Span, *, scraped: bool) -> Counts:
    """The same from every sample, for counters that began anew. Where nobody looked at the start, a series counts from its
    first sample: what it had counted until then may be older than the window.
    """
    grown: dict[tuple[Group, float], float] = defaultdict(float)
    for labels, points in lines:
        before = [value for at, value in points if at <= span.start]
        inside = [value for at, value in points if span.start < at <= span.end]
        if not before and not scraped:
            before, inside = inside[:1], inside[1:]
        last = before[-1] if before else 0.0
        total = 0.0
        for value in inside:
            total += value - last if value >= last else value
            last = value
        grown[group_of(labels), edge_of(labels)] += total
    return _table(grown)


def _table(grown: Mapping[tuple[Group, float], float]) -> Counts:
    found: dict[Group, dict[float, int]] = defaultdict(dict)
    for (group, edge), value in grown.items():
        whole = round(value)
        if abs(value - whole) > _WHOLE:
            raise AnswerError(
                f"counted {value:.6g} requests, which is no whole number: spans are counted by a weight that a client's"
                " tracestate may set; let the Collector drop it (docs/scale.md)"
            )
        found[group][edge] = whole
    return found


def without_bucket(reading: Reading, thresholds: Sequence[float]) -> str:
    """Why requests can't be counted against a threshold, and what to do; empty where they can."""
    edges = sorted({edge for _, edge in reading.series})
    for threshold in thresholds:
        edge = _edge(edges, threshold)
        if edge is None:
            shown = ", ".join(f"{one:g}" for one in edges if math.isfinite(one))
            return (
                f"no bucket of the span metrics ends at {threshold:g} s, only at {shown or 'infinity'}: add it to"
                " telemetry.collector.buckets, or to histogram.explicit.buckets of your own Collector's spanmetrics connector"
            )
        for (group, one), number in reading.series.items():
            if math.isinf(one) and reading.series.get((group, edge), 0) != number:
                return (
                    f"not every Collector has counted to a bucket that ends at {threshold:g} s in this time; where it was"
                    " added just now, the figures from before end with the window"
                )
    return ""


def windows(counts: Counts, thresholds: Sequence[float]) -> list[RevisionWindow]:
    """Each revision's requests; each threshold must have its bucket (:func:`without_bucket`). Raises AnswerError."""
    by_revision: dict[str, dict[Group, Mapping[float, int]]] = defaultdict(dict)
    for group, edges in counts.items():
        if _all(edges):
            by_revision[group.revision][group] = edges
    return [_window(revision, groups, thresholds) for revision, groups in sorted(by_revision.items())]


def _window(revision: str, groups: Mapping[Group, Mapping[float, int]], thresholds: Sequence[float]) -> RevisionWindow:
    unavailable, codes, good = 0, dict[str, int](), dict[float, int]()
    everything: dict[float, int] = defaultdict(int)
    for group, edges in groups.items():
        outcome = _outcome(group)
        if outcome.failed:
            unavailable += _all(edges)
            codes[outcome.code] = codes.get(outcome.code, 0) + _all(edges)
        for edge, count in edges.items():
            everything[edge] += count
            good[edge] = good.get(edge, 0) + (0 if outcome.failed else count)
    requests = everything[math.inf]
    over = [LatencyCount(threshold=one, bad=requests - good[_edge(good, one) or math.inf]) for one in thresholds]
    return RevisionWindow(
        revision=revision,
        requests=requests,
        unavailable=unavailable,
        codes=dict(sorted(codes.items())),
        over=tuple(over),
        latency=quantiles(everything),
    )


def _outcome(group: Group) -> Outcome:
    try:
        return group.outcome
    except ValueError as problem:
        raise AnswerError(f"a router's span has {problem}") from None


def _all(edges: Mapping[float, int]) -> int:
    if math.inf not in edges:
        raise AnswerError("a histogram has no bucket +Inf")
    return edges[math.inf]


def _edge(edges: Iterable[float], threshold: float) -> float | None:
    return next((edge for edge in edges if abs(edge - threshold) <= _SAME * max(1.0, threshold)), None)


def quantiles(cumulated: Mapping[float, int]) -> Quantiles:
    """p50, p90 and p99 by linear interpolation in their buckets, and the edges between which the true ones lie with 95 %."""
    edges = sorted(cumulated)
    number = cumulated.get(math.inf, 0)
    if not number:
        return Quantiles()

    def bucket(rank: int) -> int:
        return next(place for place, edge in enumerate(edges) if cumulated[edge] > rank)

    def lower(place: int) -> float:
        return edges[place - 1] if place else 0.0

    found: dict[str, float | Interval | None] = {}
    for name, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        rank = q * (number - 1)
        place = bucket(int(rank))
        below = cumulated[edges[place - 1]] if place else 0
        inside = cumulated[edges[place]] - below
        width = 0.0 if math.isinf(edges[place]) else edges[place] - lower(place)
        found[name] = lower(place) + width * (rank - below + 0.5) / inside
        low, high = ranks(number, q)
        top = None if high is None else edges[bucket(high)]
        found[f"{name}_interval"] = Interval(
            low=None if low is None else lower(bucket(low)), high=None if top is None or math.isinf(top) else top
        )
    return Quantiles.model_validate(found)


def exemplars(
    series: Iterable[tuple[Mapping[str, str], Iterable[tuple[str, float]]]],
) -> dict[str, tuple[Exemplar, ...]]:
    """By revision the worst requests whose traces are named: failed before slow, slower before faster.

    `series` has the labels of each series and its exemplars' trace ids and seconds.
    """
    found: dict[str, dict[str, tuple[bool, float, str | None]]] = defaultdict(dict)
    for labels, points in series:
        group = group_of(labels)
        outcome = _outcome(group)
        for trace_id, seconds in points:
            found[group.revision][trace_id] = (outcome.failed, seconds, outcome.code if outcome.failed else None)
    return {
        revision: tuple(
            Exemplar(trace_id=trace_id, seconds=seconds, code=code)
            for trace_id, (_, seconds, code) in sorted(traces.items(), key=lambda item: item[1][:2], reverse=True)[
                :EXEMPLARS
            ]
        )
        for revision, traces in found.items()
    }
