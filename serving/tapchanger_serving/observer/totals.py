"""Counters of one revision since the observer began, as Prometheus wants them."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

from tapchanger_serving.observer.breakdown import Stage
from tapchanger_serving.observer.bucket import Request

EDGES: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper edges of the latency histogram in seconds; the last one, +Inf, is left out."""


@dataclass(slots=True)
class Totals:
    """`codes` counts requests by code, successes too; `histogram` counts per edge, not cumulated, +Inf last."""

    codes: dict[str, int] = field(default_factory=dict)
    histogram: list[int] = field(default_factory=lambda: [0] * (len(EDGES) + 1))
    seconds: float = 0.0
    queue: float = 0.0
    pre: float = 0.0
    compute: float = 0.0
    post: float = 0.0
    stages: int = 0

    def add(self, request: Request) -> None:
        """Count one request."""
        code = request.outcome.code
        self.codes[code] = self.codes.get(code, 0) + 1
        self.histogram[bisect_left(EDGES, request.seconds)] += 1
        self.seconds += request.seconds

    def add_stage(self, stage: Stage) -> None:
        """Count one request's time in a server."""
        self.queue += stage.queue
        self.pre += stage.pre
        self.compute += stage.compute
        self.post += stage.post
        self.stages += 1
