"""The windows in a file, so that a restart in the middle of a canary forgets nothing.

Version 2 is JSON: `{"version": 2, "deployments": [{"namespace", "deployment", "thresholds", "revisions": [{"revision",
"scores": [[start, …]], "confidences": [[start, …]], "mirrors": [[stable, start, …]], "labels": {…}, "came": [[start, …]],
"minutes": [{"start", "step", "buckets": [[start, …]]}]}]}], "answers": […], "labels": […]}`; the last two are what is remembered
of single requests. A minute that did not change since the last snapshot is not encoded again. Version 1, which had the sums of
queue and compute only, is read as well.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any, Final

from tapchanger_serving.observer import mirror
from tapchanger_serving.observer.breakdown import Breakdown, Length, Node, Sums
from tapchanger_serving.observer.bucket import Bucket, Kept, Over
from tapchanger_serving.observer.labels import Labels
from tapchanger_serving.observer.scores import Tally
from tapchanger_serving.observer.windows import COARSE, FINE, Minute, Series, Windows

VERSION: Final = 2
READ: Final = (1, VERSION)
_KINDS: Final = tuple(type(value) for value in astuple(Sums()))
FAULTS: Final = (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError)


class SnapshotError(ValueError):
    """A file that holds no snapshot of this version."""


def encode(windows: Windows) -> Iterator[str]:
    """All windows as JSON, in pieces of one deployment each; the windows may be written to between two pieces."""
    comma = ""
    yield f'{{"version":{VERSION},"deployments":['
    for (namespace, name), deployment in list(windows.deployments.items()):
        revisions = [_series(revision, series) for revision, series in deployment.revisions.items()]
        head = json.dumps({"namespace": namespace, "deployment": name, "thresholds": deployment.thresholds})
        yield f'{comma}{head[:-1]},"revisions":[{",".join(revisions)}]}}'
        comma = ","
    yield "]"
    for name, pieces in (("answers", windows.memory.answers.saved()), ("labels", windows.memory.saved())):
        yield f',"{name}":['
        comma = ""
        for piece in pieces:
            yield comma + json.dumps(piece, separators=(",", ":"))[1:-1]
            comma = ","
        yield "]"
    yield "}"


def _series(revision: str, series: Series) -> str:
    minutes = []
    for start, minute in series.minutes.items():
        if minute.encoded is None:
            buckets = [[second, *bucket_row(bucket)] for second, bucket in minute.buckets.items()]
            minute.encoded = json.dumps(
                {"start": start, "step": minute.step, "buckets": buckets}, separators=(",", ":")
            )
        minutes.append(minute.encoded)
    scores, sure = (
        json.dumps([[start, *sums] for start, sums in one.steps.items()]) for one in (series.scores, series.confidences)
    )
    mirrors = json.dumps(
        [
            [stable, start, tally_row(tally)]
            for stable, steps in series.mirrors.steps.items()
            for start, tally in steps.items()
        ]
    )
    head = f'"revision":{json.dumps(revision)},"scores":{scores},"confidences":{sure},"mirrors":{mirrors}'
    came = json.dumps([[start, *sums] for start, sums in series.labels_came.steps.items()])
    labels = f'"labels":{series.labels.dumps()},"came":{came}'
    return f'{{{head},{labels},"minutes":[{",".join(minutes)}]}}'


def tally_row(tally: mirror.Tally) -> list[Any]:
    """All that is counted, in the order of the fields, with lists of pairs for what JSON can't have as keys."""
    return [
        [*value.items()] if isinstance(value, dict) else value
        for value in (getattr(tally, one.name) for one in fields(tally))
    ]


def row_tally(row: list[Any]) -> mirror.Tally:
    """What :func:`tally_row` wrote. Raises one of :data:`FAULTS` for anything else."""
    *counts, canary, stable, flips, texts, same, exemplars = row
    requests, canary_failed, stable_failed, compared, agreement, rows, rows_alike = counts
    return mirror.Tally(
        requests=int(requests),
        canary_failed=int(canary_failed),
        stable_failed=int(stable_failed),
        compared=int(compared),
        agreement=float(agreement),
        rows=int(rows),
        rows_alike=int(rows_alike),
        canary_latency={int(index): int(count) for index, count in canary},
        stable_latency={int(index): int(count) for index, count in stable},
        flips=Counter({(str(one), str(other)): int(count) for (one, other), count in flips}),
        texts=Counter({_slice(kind): int(count) for kind, count in texts}),
        same=Counter({_slice(kind): int(count) for kind, count in same}),
        exemplars=tuple(str(trace) for trace in exemplars),
    )


def _slice(kind: Any) -> int | str:
    return kind if isinstance(kind, int) else str(kind)


def bucket_row(bucket: Bucket) -> list[Any]:
    """All of a bucket, for JSON."""
    return [
        bucket.requests,
        bucket.unavailable,
        list(bucket.good.items()),
        list(bucket.failed.items()),
        bucket.codes,
        [[threshold, *over] for threshold, over in bucket.over.items()],
        [[kept.failed, kept.seconds, kept.trace_id.hex(), kept.code, kept.end] for kept in bucket.worst],
        bucket.first,
        bucket.last,
        bucket.first_failed,
        None if bucket.parts is None else _parts(bucket.parts),
    ]


def _parts(parts: Breakdown) -> list[Any]:
    return [
        astuple(parts.every),
        [[threshold, *astuple(sums)] for threshold, sums in parts.slow.items()],
        [[kind, *length] for kind, length in parts.lengths.items()],
        [[name, *node] for name, node in parts.nodes.items()],
    ]


def decode(text: str, windows: Windows) -> None:
    """Fill empty windows from a snapshot.

    Raises SnapshotError; the windows may then be half filled and are to be thrown away.
    """
    try:
        state = json.loads(text)
        version = state["version"]
    except FAULTS as error:
        raise SnapshotError(f"not a snapshot ({error!r})") from None
    if version not in READ:
        raise SnapshotError(f"version {version!r}, expected {VERSION}")
    try:
        for deployment in state["deployments"]:
            _load(deployment, windows)
        windows.memory.answers.load(state.get("answers", []))
        windows.memory.load(state.get("labels", []))
    except FAULTS as error:
        raise SnapshotError(f"not a snapshot of version {version} ({error!r})") from None


def _load(state: dict[str, Any], windows: Windows) -> None:
    thresholds = tuple(float(threshold) for threshold in state["thresholds"])
    deployment = windows.entry(str(state["namespace"]), str(state["deployment"]))
    deployment.thresholds = thresholds
    for revision in state["revisions"]:
        series = deployment.revisions[str(revision["revision"])] = Series()
        if "labels" in revision:
            series.labels = Labels.of(revision["labels"])
        kinds = (("scores", series.scores), ("confidences", series.confidences), ("came", series.labels_came))
        for part, kept in kinds:
            for start, count, total, squares in revision.get(part, []):
                kept.steps[int(start)] = Tally(int(count), float(total), float(squares))
        for stable, start, row in revision.get("mirrors", []):
            series.mirrors.steps.setdefault(str(stable), {})[int(start)] = row_tally(row)
        for minute in revision["minutes"]:
            if minute["step"] not in (FINE, COARSE):
                raise ValueError(f"step {minute['step']!r}")
            buckets = {int(row[0]): row_bucket(row[1:]) for row in minute["buckets"]}
            series.minutes[int(minute["start"])] = Minute(step=minute["step"], buckets=buckets)


def row_bucket(row: list[Any]) -> Bucket:
    """What :func:`bucket_row` wrote. Raises one of :data:`FAULTS` for anything else."""
    requests, unavailable, good, failed, codes, over, worst, first, last, first_failed, *parts = row
    return Bucket(
        requests=int(requests),
        unavailable=int(unavailable),
        good={int(index): int(count) for index, count in good},
        failed={int(index): int(count) for index, count in failed},
        codes={str(code): int(count) for code, count in codes.items()},
        over={float(threshold): Over(int(count), _time(at)) for threshold, count, at in over},
        worst=tuple(
            Kept(bool(bad), float(seconds), bytes.fromhex(trace), None if code is None else str(code), float(end))
            for bad, seconds, trace, code, end in worst
        ),
        first=_time(first),
        last=_time(last),
        first_failed=_time(first_failed),
        parts=_unparts(*parts),
    )


def _unparts(told: Any, *older: Any) -> Breakdown | None:
    """What :func:`_parts` wrote; version 1 had three figures in its place."""
    if older:
        compute, spans = older
        return Breakdown(Sums(spans=int(spans), queue=float(told), compute=float(compute))) if spans else None
    if told is None:
        return None
    every, slow, lengths, nodes = told
    return Breakdown(
        _sums(every),
        {float(threshold): _sums(sums) for threshold, *sums in slow},
        {int(kind): Length(int(requests), float(seconds)) for kind, requests, seconds in lengths},
        {str(name): Node(int(requests), int(failed), float(seconds)) for name, requests, failed, seconds in nodes},
    )


def _sums(row: list[Any]) -> Sums:
    return Sums(*(kind(value) for kind, value in zip(_KINDS, row, strict=True)))


def _time(value: Any) -> float | None:
    return None if value is None else float(value)


def write(pieces: Iterable[str], path: Path) -> None:
    """Replace the file in one step: a reader, or a crash, sees the old one or the new one. Raises OSError."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("w", encoding="utf-8") as file:
        file.writelines(pieces)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
