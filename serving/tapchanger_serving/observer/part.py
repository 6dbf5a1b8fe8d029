"""What one observer knows that answers a question, in a form that merges: of several observers each has a part.

A span is with the one observer that it was sent to, so sums over the observers count each once. A sender that repeats a
payload, because the answer got lost, may reach another observer the second time; then those spans count twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from tapchanger_serving.contract.labels import LabelWindow
from tapchanger_serving.contract.windows import ClockSkew, Windows
from tapchanger_serving.observer import snapshot
from tapchanger_serving.observer.bucket import Bucket
from tapchanger_serving.observer.labels import Tally as LabelTally
from tapchanger_serving.observer.mirror import Tally as MirrorTally
from tapchanger_serving.observer.question import Question
from tapchanger_serving.observer.scores import Tally
from tapchanger_serving.observer.telling import mirror_window, revision_window, told
from tapchanger_serving.observer.windows import Windows as Store

VERSION: Final = 1


class PartError(ValueError):
    """A part that can't be read: another version of the observer sent it."""


@dataclass
class Part:
    """By revision what users felt, what they thought, how sure the answers were and what labels say; by canary and stable
    revision the pairs.
    """

    revisions: dict[str, Bucket] = field(default_factory=dict)
    scores: dict[str, Tally] = field(default_factory=dict)
    confidences: dict[str, Tally] = field(default_factory=dict)
    mirrors: dict[tuple[str, str], MirrorTally] = field(default_factory=dict)
    labels: dict[str, LabelTally] = field(default_factory=dict)
    came: dict[str, Tally] = field(default_factory=dict)
    skews: dict[str, float] = field(default_factory=dict)
    """Seconds by which nodes of these revisions are ahead of the routers, where they certainly are or lag behind."""


def of(store: Store, asked: Question) -> Part:
    """What this observer has."""
    where = (asked.namespace, asked.deployment, asked.since, asked.until)
    revisions = store.window(*where)
    nodes = {node for bucket in revisions.values() if bucket.parts for node in bucket.parts.nodes}
    skews = {node: skew for node, skew in store.clocks.skews().items() if skew and node in nodes}
    labels, came = _labels(store, asked)
    return Part(revisions, store.scores(*where), store.confidences(*where), store.mirrors(*where), labels, came, skews)


def _labels(store: Store, asked: Question) -> tuple[dict[str, LabelTally], dict[str, Tally]]:
    """By revision what labels say of its answers, and the outcomes by the time at which they came."""
    entry = store.deployments.get((asked.namespace, asked.deployment))
    known = entry.revisions.items() if entry else ()
    labels = {name: series.labels.window(asked.since, asked.until) for name, series in known}
    came = {name: series.labels_came.window(asked.since, asked.until) for name, series in known}
    return (
        {name: tally for name, tally in labels.items() if tally.labelled or tally.texts},
        {name: tally for name, tally in came.items() if tally.number},
    )


def merge(parts: Iterable[Part]) -> Part:
    """All parts in one; the same as if one observer had got all spans, but for what only meets inside one of them."""
    total = Part()
    for one in parts:
        for revision, bucket in one.revisions.items():
            total.revisions.setdefault(revision, Bucket()).absorb(bucket)
        for pair, tally in one.mirrors.items():
            total.mirrors.setdefault(pair, MirrorTally()).absorb(tally)
        for revision, labels in one.labels.items():
            total.labels.setdefault(revision, LabelTally()).absorb(labels)
        for mine, theirs in (
            (total.scores, one.scores),
            (total.confidences, one.confidences),
            (total.came, one.came),
        ):
            for revision, sums in theirs.items():
                mine[revision] = mine.get(revision, Tally()).plus(sums)
        for node, skew in one.skews.items():
            total.skews[node] = max(skew, total.skews.get(node, 0.0), key=abs)
    return total


def tell(asked: Question, part: Part, now: float) -> Windows:
    """The answer to a question, in the contract's words."""
    names = sorted({*part.revisions, *part.scores, *part.confidences, *part.labels, *part.came})
    return Windows(
        namespace=asked.namespace,
        deployment=asked.deployment,
        now=now,
        since=asked.since,
        until=asked.until,
        revisions=tuple(
            revision_window(name, part.revisions.get(name, Bucket()), asked.thresholds).model_copy(
                update={
                    "feedback": told(part.scores.get(name)),
                    "confidence": told(part.confidences.get(name)),
                    "labels": part.labels[name].told() if name in part.labels else LabelWindow(),
                    "labels_came": told(part.came.get(name)),
                }
            )
            for name in names
        ),
        mirrors=tuple(
            mirror_window(canary, stable, tally, asked.thresholds)
            for (canary, stable), tally in sorted(part.mirrors.items())
        ),
        skews=tuple(ClockSkew(node=node, seconds=skew) for node, skew in sorted(part.skews.items())),
    )


def encode(part: Part) -> str:
    """JSON, with rows as a snapshot has them."""
    return json.dumps(
        {
            "version": VERSION,
            "revisions": {name: snapshot.bucket_row(bucket) for name, bucket in part.revisions.items()},
            "scores": part.scores,
            "confidences": part.confidences,
            "labels": {name: tally.row() for name, tally in part.labels.items()},
            "came": part.came,
            "skews": part.skews,
            "mirrors": [[*pair, snapshot.tally_row(tally)] for pair, tally in part.mirrors.items()],
        },
        separators=(",", ":"),
    )


def decode(text: str) -> Part:
    """What :func:`encode` wrote. Raises PartError."""
    try:
        found = json.loads(text)
        if found["version"] != VERSION:
            raise PartError(f"version {found['version']!r}, expected {VERSION}")
        return Part(
            {str(name): snapshot.row_bucket(row) for name, row in found["revisions"].items()},
            _tallies(found["scores"]),
            _tallies(found["confidences"]),
            {(str(canary), str(stable)): snapshot.row_tally(row) for canary, stable, row in found["mirrors"]},
            {str(name): LabelTally.of(row) for name, row in found.get("labels", {}).items()},
            _tallies(found.get("came", {})),
            {str(node): float(skew) for node, skew in found["skews"].items()},
        )
    except snapshot.FAULTS as error:
        raise PartError(f"not a part ({error!r})") from None


def _tallies(rows: dict[str, Any]) -> dict[str, Tally]:
    return {str(name): Tally(int(row[0]), float(row[1]), float(row[2])) for name, row in rows.items()}
