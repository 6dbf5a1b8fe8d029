"""Requests of every revision, by time, within a bound on memory.

A second is one :class:`Bucket`; sixty of them are a :class:`Minute`, which is the unit of everything else: a minute
that is asked for as a whole is merged once and remembered, an old one is coarsened to steps of 10 s, a very old one is
dropped.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from tapchanger_serving.observer.breakdown import Stage
from tapchanger_serving.observer.bucket import Bucket, Request
from tapchanger_serving.observer.drift import Drift
from tapchanger_serving.observer.keys import Key as Key
from tapchanger_serving.observer.labels import Labels, squeeze
from tapchanger_serving.observer.memory import Memory
from tapchanger_serving.observer.mirror import Mirrors, Told
from tapchanger_serving.observer.mirror import Tally as MirrorTally
from tapchanger_serving.observer.scores import Scores, Tally
from tapchanger_serving.observer.skew import Clocks
from tapchanger_serving.observer.totals import Totals

MINUTE: Final = 60
FINE: Final = 1
COARSE: Final = 10


@dataclass(frozen=True)
class Limits:
    """How long and how much is remembered.

    `fine_seconds`: how long the steps are 1 s; `keep_seconds`: how long anything is kept. `max_buckets` bounds the
    memory (about 1 KiB each): where it would be exceeded the oldest minutes are coarsened, then dropped, early.
    """

    fine_seconds: int = 7_200
    keep_seconds: int = 14_400
    max_deployments: int = 1_000
    max_revisions: int = 16
    max_thresholds: int = 16
    max_buckets: int = 200_000
    max_answers: int = 32_000


@dataclass(slots=True)
class Minute:
    """Sixty seconds of one revision: buckets by their start (Unix seconds), which are multiples of `step`.

    `merged` and `encoded` are made on demand (by a query, by a snapshot) and thrown away by the next write.
    """

    step: int = FINE
    buckets: dict[int, Bucket] = field(default_factory=dict)
    merged: Bucket | None = None
    encoded: str | None = None

    def at(self, second: int, thresholds: tuple[float, ...]) -> Bucket:
        """The bucket to write to."""
        self.merged = self.encoded = None
        start = second - second % self.step
        bucket = self.buckets.get(start)
        if bucket is None:
            bucket = self.buckets[start] = Bucket.watching(thresholds)
        return bucket

    def whole(self) -> Bucket:
        """All of the minute in one bucket; not to be written to."""
        if self.merged is None:
            self.merged = Bucket()
            for bucket in self.buckets.values():
                self.merged.absorb(bucket)
        return self.merged

    def coarsen(self) -> None:
        """Make the steps 10 s."""
        coarse: dict[int, Bucket] = {}
        for second, bucket in self.buckets.items():
            start = second - second % COARSE
            if start in coarse:
                coarse[start].absorb(bucket)
            else:
                coarse[start] = bucket
        self.step, self.buckets, self.encoded = COARSE, coarse, None


@dataclass(slots=True)
class Series:
    """One revision: its minutes by their start, its totals since the observer began, what users thought of it, how
    sure it was, what it answered to copies, what its texts were like, and how its answers compare with labels that came.
    """

    minutes: dict[int, Minute] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)
    scores: Scores = field(default_factory=Scores)
    confidences: Scores = field(default_factory=Scores)
    mirrors: Mirrors = field(default_factory=Mirrors)
    drift: Drift = field(default_factory=Drift)
    labels: Labels = field(default_factory=Labels)
    labels_came: Scores = field(default_factory=Scores)

    def window(self, since: float, until: float) -> Bucket:
        """All that ended from `since` to `until`, both rounded outwards to whole steps."""
        total = Bucket()
        for start, minute in self.minutes.items():
            if start + MINUTE <= since or start >= until:
                continue
            if since <= start and start + MINUTE <= until:
                total.absorb(minute.whole())
                continue
            for second, bucket in minute.buckets.items():
                if second + minute.step > since and second < until:
                    total.absorb(bucket)
        return total


@dataclass(slots=True)
class Deployment:
    """Revisions of one deployment and the thresholds that someone asked about, both in order of last use."""

    revisions: OrderedDict[str, Series] = field(default_factory=OrderedDict)
    thresholds: tuple[float, ...] = ()


class Windows:
    """All deployments. No method reads a clock."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.deployments: OrderedDict[tuple[str, str], Deployment] = OrderedDict()
        self.clocks = Clocks()
        """How far nodes' clocks differ; not kept over a restart."""
        self.memory = Memory(self.limits.max_answers)
        self.evicted = 0
        """Deployments and revisions that were forgotten because there were too many."""
        self.squeezed = 0
        """Minutes that were coarsened or dropped before their time because of `max_buckets`."""

    def add(self, key: Key, request: Request) -> None:
        """Count a request. The caller has refused those that ended more than `keep_seconds` ago."""
        deployment = self.entry(key.namespace, key.deployment)
        series = self._series(deployment, key.revision)
        self._bucket(series, request.end, deployment.thresholds).add(request)
        series.totals.add(request, deployment.thresholds)

    def add_stage(self, key: Key, stage: Stage) -> None:
        """Count what a server says of a request."""
        deployment = self.entry(key.namespace, key.deployment)
        series = self._series(deployment, key.revision)
        self._bucket(series, stage.end, deployment.thresholds).add_stage(stage)
        series.totals.add_stage(stage)

    def knows(self, key: Key) -> bool:
        """Whether anything is remembered of a revision."""
        deployment = self.deployments.get((key.namespace, key.deployment))
        return deployment is not None and key.revision in deployment.revisions

    def add_score(self, key: Key, at: float, score: float) -> None:
        """Count a user's score (0 to 1) that came at `at`, for a revision that is known."""
        self.deployments[key.namespace, key.deployment].revisions[key.revision].scores.add(at, score)

    def add_confidence(self, key: Key, at: float, sure: float) -> None:
        """Count how sure (0 to 1) the answer was to a request that ended at `at`."""
        self.of(key).confidences.add(at, sure)

    def of(self, key: Key) -> Series:
        """What is known of a revision, to be counted into."""
        return self._series(self.entry(key.namespace, key.deployment), key.revision)

    def confidences(self, namespace: str, deployment: str, since: float, until: float) -> dict[str, Tally]:
        """How sure each revision was that told anything from `since` to `until`."""
        entry = self.deployments.get((namespace, deployment))
        found = {name: one.confidences.window(since, until) for name, one in entry.revisions.items()} if entry else {}
        return {name: sums for name, sums in found.items() if sums.number}

    def scores(self, namespace: str, deployment: str, since: float, until: float) -> dict[str, Tally]:
        """The scores that came from `since` to `until`, of each revision that had any."""
        entry = self.deployments.get((namespace, deployment))
        found = {name: series.scores.window(since, until) for name, series in entry.revisions.items()} if entry else {}
        return {name: sums for name, sums in found.items() if sums.number}

    def add_pair(self, canary: Key, stable: Told, copy: Told, trace_id: str) -> None:
        """Count what two revisions told of a request that was copied to `canary`."""
        self.of(canary).mirrors.add(stable, copy, trace_id)

    def mirrors(
        self, namespace: str, deployment: str, since: float, until: float
    ) -> dict[tuple[str, str], MirrorTally]:
        """By canary and stable revision, the pairs from `since` to `until`."""
        entry = self.deployments.get((namespace, deployment))
        return {
            (canary, stable): tally
            for canary, series in (entry.revisions.items() if entry else ())
            for stable, tally in series.mirrors.window(since, until).items()
        }

    def join(self, key: Key, stage: Stage, seconds: float, *, failed: bool) -> None:
        """Count what the router says of a request whose `stage` was counted: how long it took and whether it failed."""
        deployment = self.entry(key.namespace, key.deployment)
        series = self._series(deployment, key.revision)
        self._bucket(series, stage.end, deployment.thresholds).join(stage, seconds, failed=failed)

    def watch(self, namespace: str, deployment: str, thresholds: tuple[float, ...]) -> None:
        """Count these thresholds (seconds) exactly from now on; the ones asked for longest ago make room."""
        entry = self.entry(namespace, deployment)
        if thresholds != entry.thresholds[: len(thresholds)]:
            others = tuple(one for one in entry.thresholds if one not in thresholds)
            entry.thresholds = (thresholds + others)[: self.limits.max_thresholds]

    def window(self, namespace: str, deployment: str, since: float, until: float) -> dict[str, Bucket]:
        """Each revision that had anything from `since` to `until` (Unix seconds)."""
        entry = self.deployments.get((namespace, deployment))
        if entry is None:
            return {}
        found = {name: series.window(since, until) for name, series in entry.revisions.items()}
        return {name: bucket for name, bucket in sorted(found.items()) if bucket.requests or bucket.parts}

    def series(self) -> Iterator[tuple[Key, Series]]:
        """Every revision that is remembered."""
        for (namespace, name), deployment in self.deployments.items():
            for revision, series in deployment.revisions.items():
                yield Key(namespace, name, revision), series

    def bucket_count(self) -> int:
        """How many buckets are held now."""
        return sum(len(minute.buckets) for _, series in self.series() for minute in series.minutes.values())

    def tidy(self, now: float) -> None:
        """Drop and coarsen what is old, then, if there is still too much, what is oldest. Called every few seconds."""
        fine_from, keep_from = now - self.limits.fine_seconds, now - self.limits.keep_seconds
        for _, series in self.series():
            for start in [start for start in series.minutes if start + MINUTE <= keep_from]:
                del series.minutes[start]
            series.scores.drop(keep_from)
            series.confidences.drop(keep_from)
            series.mirrors.drop(keep_from)
            series.drift.drop(now)
            series.labels.tidy(keep_from, now)
            series.labels_came.drop(keep_from)
            for start, minute in series.minutes.items():
                if minute.step == FINE and start + MINUTE <= fine_from:
                    minute.coarsen()
        squeeze((series.labels for _, series in self.series()), now)
        self._squeeze(now)

    def _squeeze(self, now: float) -> None:
        excess = self.bucket_count() - self.limits.max_buckets
        if excess <= 0:
            return
        by_age = sorted(
            ((start, series) for _, series in self.series() for start in series.minutes if start + MINUTE <= now),
            key=lambda pair: pair[0],
        )
        for start, series in by_age:
            minute = series.minutes[start]
            if excess > 0 and minute.step == FINE:
                excess -= len(minute.buckets)
                minute.coarsen()
                excess += len(minute.buckets)
                self.squeezed += 1
        for start, series in by_age:
            if excess > 0:
                excess -= len(series.minutes.pop(start).buckets)
                self.squeezed += 1

    def entry(self, namespace: str, name: str) -> Deployment:
        """The deployment, made where it is new, as the one used last."""
        key = (namespace, name)
        entry = self.deployments.get(key)
        if entry is None:
            entry = self.deployments[key] = Deployment()
            if len(self.deployments) > self.limits.max_deployments:
                self.deployments.popitem(last=False)
                self.evicted += 1
        else:
            self.deployments.move_to_end(key)
        return entry

    def _series(self, deployment: Deployment, revision: str) -> Series:
        series = deployment.revisions.get(revision)
        if series is None:
            series = deployment.revisions[revision] = Series()
            if len(deployment.revisions) > self.limits.max_revisions:
                deployment.revisions.popitem(last=False)
                self.evicted += 1
        else:
            deployment.revisions.move_to_end(revision)
        return series

    def _bucket(self, series: Series, end: float, thresholds: tuple[float, ...]) -> Bucket:
        second = int(end)
        start = second - second % MINUTE
        minute = series.minutes.get(start)
        if minute is None:
            minute = series.minutes[start] = Minute()
        return minute.at(second, thresholds)
