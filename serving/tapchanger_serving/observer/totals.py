"""Counters of one revision since the observer began, as Prometheus wants them."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

from tapchanger_serving.observer.breakdown import Stage
from tapchanger_serving.observer.bucket import Request

EDGES: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper edges of the latency histogram in seconds; the last one, +Inf, is left out."""
MOST_THRESHOLDS: Final = 64
"""Thresholds that are counted; more than a deployment has in its life, unless someone plays with them."""


@dataclass(slots=True)
class Totals:
    """`codes` counts requests by code, successes too; `histogram` counts per edge, not cumulated, +Inf last. `failed` are those
    that failed by the server's fault, `over` those that failed or took longer than a threshold (seconds), since it is watched.
    """

    codes: dict[str, int] = field(default_factory=dict)
    histogram: list[int] = field(default_factory=lambda: [0] * (len(EDGES) + 1))
    seconds: float = 0.0
    failed: int = 0
    over: dict[float, int] = field(default_factory=dict)
    queue: float = 0.0
    pre: float = 0.0
    compute: float = 0.0
    post: float = 0.0
    stages: int = 0

    def add(self, request: Request, thresholds: tuple[float, ...] = ()) -> None:
        """Count one request, and whether it is bad by each of `thresholds`."""
        code = request.outcome.code
        self.codes[code] = self.codes.get(code, 0) + 1
        self.histogram[bisect_left(EDGES, request.seconds)] += 1
        self.seconds += request.seconds
        failed = request.outcome.failed
        self.failed += failed
        for threshold in thresholds:
            known = self.over.get(threshold, 0 if len(self.over) < MOST_THRESHOLDS else None)
            if known is not None:
                self.over[threshold] = known + (failed or request.seconds > threshold)

    def add_stage(self, stage: Stage) -> None:
        """Count one request's time in a server."""
        self.queue += stage.queue
        self.pre += stage.pre
        self.compute += stage.compute
        self.post += stage.post
        self.stages += 1
