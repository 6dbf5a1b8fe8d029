"""What the users of a simulated cluster sent, second by second, and what an observer would tell of it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tapchanger_serving.contract.labels import AnsweredLabel, ConfidenceBin, LabelledSlice, LabelWindow
from tapchanger_serving.contract.windows import (
    Exemplar,
    LatencyCount,
    MirrorWindow,
    Quantiles,
    RevisionWindow,
    Scores,
)

BY_REVISION = ("requests", "slow", "failing", "labelled", "wrong")


@dataclass(frozen=True)
class Behaviour:
    """What a model does when it is served: shares of requests that are slow or fail, and whether it starts at all."""

    slow: float = 0.0
    failing: float = 0.0
    starts: bool = True
    liked: float | None = None
    """The score that every user gives, where they give any."""
    differs: float = 0.0
    """The share of copied requests that it answers unlike the stable revision."""
    labelled: float = 0.0
    """The share of requests whose true label comes, `labels_after` seconds after the answer."""
    wrong: float = 0.0
    """The share of answers that are wrong, of those that are labelled."""
    labels_after: float = 0.0


@dataclass
class Copies:
    """Requests that were copied, and among them those that were slow, failed or answered unlike the original."""

    requests: int = 0
    slow: int = 0
    failing: int = 0
    differing: int = 0


@dataclass
class Second:
    """Requests that ended in one second, by revision."""

    at: float
    requests: Counter[str] = field(default_factory=Counter)
    slow: Counter[str] = field(default_factory=Counter)
    failing: Counter[str] = field(default_factory=Counter)
    labelled: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    copies: dict[tuple[str, str], Copies] = field(default_factory=dict)
    """By canary and the revision that answered the original."""


Counts = Counter[tuple[object, ...]]


class History:
    """Seconds in their order, and the sums of all before each, so that any stretch of days costs no more than one of minutes."""

    def __init__(self) -> None:
        self._seconds: list[Second] = []
        self._before: list[Counts] = [Counter()]

    def __iter__(self) -> Iterator[Second]:
        return iter(self._seconds)

    def add(self, second: Second) -> None:
        counts: Counts = Counter({("seen", revision): 1 for revision in second.requests})
        for kind in BY_REVISION:
            for revision, count in getattr(second, kind).items():
                counts[kind, revision] += count
        for pair, copies in second.copies.items():
            counts["copied", pair] += 1
            for kind, count in vars(copies).items():
                counts[f"copied {kind}", pair] += count
        self._seconds.append(second)
        total = self._before[-1].copy()
        total.update(counts)
        self._before.append(total)

    def clear(self) -> None:
        self.keep(0)

    def keep(self, seconds: int) -> None:
        """Forgets all but the last so many."""
        gone = max(len(self._seconds) - seconds, 0)
        del self._seconds[:gone], self._before[:gone]

    def windows(
        self, since: float, until: float, latencies: Sequence[float], behaviour: Callable[[str], Behaviour], now: float
    ) -> tuple[tuple[RevisionWindow, ...], tuple[MirrorWindow, ...]]:
        """What an observer that is asked at `now` knows of the seconds from `since` to before `until`."""
        start, end = self._index(since), self._index(until)
        total = self._between(start, end)

        def window(revision: str) -> RevisionWindow:
            does = behaviour(revision)
            known = bisect_right(self._seconds, now - does.labels_after, key=lambda second: second.at)
            told = self._between(start, max(min(end, known), start))
            labelled, wrong = told["labelled", revision], told["wrong", revision]
            requests, slow = total["requests", revision], total["slow", revision]
            return RevisionWindow(
                revision=revision,
                requests=requests,
                unavailable=total["failing", revision],
                over=tuple(LatencyCount(threshold=latency, bad=slow) for latency in latencies),
                latency=Quantiles(p50=0.004, p99=0.02),
                exemplars=(Exemplar(trace_id="ab" * 16, seconds=0.4),) if slow else (),
                feedback=_scores(requests, does.liked),
                labels=_labels(requests, labelled, wrong),
                labels_came=_outcomes(labelled, wrong),
                first_bad=self._first("slow", revision, start) if slow else None,
            )

        seen = sorted(str(what[1]) for what, count in total.items() if what[0] == "seen" and count)
        pairs = [what[1] for what, count in total.items() if what[0] == "copied" and count]
        return tuple(map(window, seen)), tuple(_mirror(total, pair, latencies) for pair in pairs)

    def _index(self, at: float) -> int:
        return bisect_left(self._seconds, at, key=lambda second: second.at)

    def _between(self, start: int, end: int) -> Counts:
        before = self._before[start]
        return Counter({what: count - before[what] for what, count in self._before[max(start, end)].items()})

    def _first(self, kind: str, revision: str, start: int) -> float:
        """When the first of its kind ended, from the second of that number on."""
        before = self._before[start][kind, revision]
        return self._seconds[bisect_right(self._before, before, start, key=lambda sums: sums[kind, revision]) - 1].at


def _mirror(total: Counts, pair: object, latencies: Sequence[float]) -> MirrorWindow:
    assert isinstance(pair, tuple)
    requests, failing = total["copied requests", pair], total["copied failing", pair]
    return MirrorWindow(
        canary=pair[0],
        stable=pair[1],
        requests=requests,
        canary_failed=failing,
        compared=requests - failing,
        agreement=float(requests - failing - total["copied differing", pair]),
        canary_over=tuple(LatencyCount(threshold=latency, bad=total["copied slow", pair]) for latency in latencies),
        stable_over=tuple(LatencyCount(threshold=latency, bad=0) for latency in latencies),
    )


def _labels(count: int, labelled: int, wrong: int) -> LabelWindow:
    right = labelled - wrong
    return LabelWindow(
        labelled=labelled,
        right=right,
        sure=labelled,
        brier=0.01 * right + 0.81 * wrong,
        slices=(LabelledSlice(name="answer=safe", labelled=labelled, right=right),) if labelled else (),
        answered=(AnsweredLabel(label="safe", texts=count, labelled=labelled),),
        bins=(ConfidenceBin(number=13, labelled=labelled, right=right, confidence=0.9 * labelled),) if labelled else (),
    )


def _outcomes(labelled: int, wrong: int) -> Scores:
    right = float(labelled - wrong)
    return Scores(count=labelled, total=right, squares=right)


def _scores(count: int, score: float | None) -> Scores:
    return Scores() if score is None else Scores(count=count, total=count * score, squares=count * score * score)
