"""The latency surface as a table of batch × tokens whose cells are shaded by the time that one text takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tapchanger_serving.contract.messages import Timing

LEVELS = 8


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the surface. `level` runs from 0, the quickest per text, to :data:`LEVELS`."""

    point: Timing
    texts_per_second: float
    level: int


@dataclass(frozen=True, slots=True)
class Heat:
    """Rows of the table by batch; a cell that was not measured is None."""

    tokens: tuple[int, ...]
    rows: tuple[tuple[int, tuple[Cell | None, ...]], ...]


def heat(surface: Sequence[Timing]) -> Heat:
    """The table of a surface."""
    costs = {(point.batch, point.tokens): max(point.p50_ms, 1e-9) / point.batch for point in surface}
    low, high = (min(costs.values()), max(costs.values())) if costs else (1.0, 1.0)
    cells = {
        (point.batch, point.tokens): Cell(
            point=point,
            texts_per_second=1000 / costs[point.batch, point.tokens],
            level=_level(costs[point.batch, point.tokens], low, high),
        )
        for point in surface
    }
    tokens = tuple(sorted({point.tokens for point in surface}))
    batches = sorted({point.batch for point in surface})
    return Heat(tokens, tuple((batch, tuple(cells.get((batch, count)) for count in tokens)) for batch in batches))


def _level(cost: float, low: float, high: float) -> int:
    span = math.log(high / low)
    return round(LEVELS * math.log(cost / low) / span) if span > 0 else 0
