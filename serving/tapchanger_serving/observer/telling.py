"""What was counted, in the contract's words."""

from __future__ import annotations

from collections import Counter
from typing import Final

from tapchanger_serving.contract.windows import (
    Exemplar,
    Flip,
    LatencyCount,
    LengthCount,
    MirrorWindow,
    NodeCount,
    RevisionWindow,
    Scores,
    Slice,
    SlowStages,
    Stages,
)
from tapchanger_serving.observer import scores, sketch
from tapchanger_serving.observer.breakdown import Breakdown, Sums
from tapchanger_serving.observer.bucket import Bucket, earlier
from tapchanger_serving.observer.mirror import Tally
from tapchanger_serving.observer.quantiles import quantiles
from tapchanger_serving.observer.sketch import Sketch

FLIPS: Final = 20
LABELS: Final = 50
"""How many flips and labels are told, the most frequent ones."""


def revision_window(revision: str, bucket: Bucket, thresholds: tuple[float, ...]) -> RevisionWindow:
    """One revision in the contract's words. Failed requests are over every threshold."""
    over = {threshold: bucket.over_threshold(threshold) for threshold in thresholds}
    first_bad = bucket.first_failed
    for one in over.values():
        first_bad = earlier(first_bad, one.first)
    latencies = dict(bucket.good)
    sketch.merge(latencies, bucket.failed)
    parts = bucket.parts or Breakdown()
    return RevisionWindow(
        revision=revision,
        requests=bucket.requests,
        unavailable=bucket.unavailable,
        codes=dict(sorted(bucket.codes.items())),
        over=tuple(LatencyCount(threshold=at, bad=one.number + bucket.unavailable) for at, one in over.items()),
        latency=quantiles(latencies),
        stages=_stages(parts.every),
        slow=tuple(SlowStages(threshold=at, stages=_stages(parts.slow[at])) for at in thresholds if at in parts.slow),
        lengths=tuple(
            LengthCount(up_to=2**kind, requests=one.requests, seconds=one.seconds / one.requests)
            for kind, one in sorted(parts.lengths.items())
        ),
        nodes=tuple(
            NodeCount(node=name, requests=one.requests, failed=one.failed, seconds=one.seconds / one.requests)
            for name, one in sorted(parts.nodes.items())
        ),
        exemplars=tuple(
            Exemplar(trace_id=one.trace_id.hex(), seconds=one.seconds, code=one.code) for one in bucket.worst
        ),
        first_seen=bucket.first,
        last_seen=bucket.last,
        first_bad=first_bad,
    )


def _stages(sums: Sums) -> Stages:
    """Means. What only older servers leave out stays unknown."""
    if not sums.spans:
        return Stages()
    told = sums.rows > 0
    return Stages(
        queue=sums.queue / sums.spans,
        pre=sums.pre / sums.spans if told else None,
        compute=sums.compute / sums.spans,
        post=sums.post / sums.spans if told else None,
        network=sums.network / sums.joined if sums.joined else None,
        seconds=sums.seconds / sums.joined if sums.joined else None,
        tokens=sums.tokens / sums.counted if sums.counted else None,
        batch=sums.rows / sums.spans if told else None,
        spans=sums.spans,
        joined=sums.joined,
    )


def told(sums: scores.Tally | None) -> Scores:
    """Numbers from 0 to 1; no sums are none of them."""
    return Scores(count=sums.number, total=sums.total, squares=sums.squares) if sums else Scores()


def mirror_window(canary: str, stable: str, tally: Tally, thresholds: tuple[float, ...]) -> MirrorWindow:
    """The answers of two revisions to the same requests. Failed requests are over every threshold."""

    def over(latencies: Sketch, failed: int) -> tuple[LatencyCount, ...]:
        return tuple(LatencyCount(threshold=at, bad=sketch.count_over(latencies, at) + failed) for at in thresholds)

    return MirrorWindow(
        canary=canary,
        stable=stable,
        requests=tally.requests,
        canary_failed=tally.canary_failed,
        stable_failed=tally.stable_failed,
        compared=tally.compared,
        agreement=tally.agreement,
        texts=tally.rows,
        alike=tally.rows_alike,
        canary_over=over(tally.canary_latency, tally.canary_failed),
        stable_over=over(tally.stable_latency, tally.stable_failed),
        canary_latency=quantiles(tally.canary_latency),
        stable_latency=quantiles(tally.stable_latency),
        flips=tuple(
            Flip(stable=one, canary=other, texts=count) for (one, other), count in tally.flips.most_common(FLIPS)
        ),
        lengths=_slices({f"<={2**kind}": kind for kind in sorted(k for k in tally.texts if isinstance(k, int))}, tally),
        labels=_slices({kind: kind for kind, _ in _labels(tally).most_common(LABELS)}, tally),
        exemplars=tally.exemplars,
    )


def _labels(tally: Tally) -> Counter[str]:
    return Counter({kind: count for kind, count in tally.texts.items() if isinstance(kind, str)})


def _slices(kinds: dict[str, int] | dict[str, str], tally: Tally) -> tuple[Slice, ...]:
    return tuple(Slice(name=name, texts=tally.texts[kind], alike=tally.same[kind]) for name, kind in kinds.items())
