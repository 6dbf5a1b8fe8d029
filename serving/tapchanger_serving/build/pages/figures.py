"""The plots of a report. Pure: the same figures give the same drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tapchanger_serving.build.pages.svg import Drawing
from tapchanger_serving.build.pages.words import clip, figure, milliseconds, percent, times
from tapchanger_serving.contract.messages import Timing

_WIDTH = 720.0
_LEFT = 170.0
_ROW = 28.0
_AXIS = 30.0
_LABEL = 24


@dataclass(frozen=True, slots=True)
class Bar:
    """One engine's speed. `kind` is `chosen`, `passed`, `failed` or `baseline`."""

    name: str
    texts_per_second: float
    kind: str


def speed_bars(bars: Sequence[Bar], baseline: float) -> Markup:
    """Texts per second of each engine, the fastest first, and how many times the baseline that is."""
    room = _WIDTH - _LEFT - 230
    most = max((bar.texts_per_second for bar in bars), default=0.0) or 1.0
    drawing = Drawing(_WIDTH, _ROW * len(bars) + 8, "Texts per second by engine")
    for row, bar in enumerate(sorted(bars, key=lambda one: (-one.texts_per_second, one.name))):
        top, width = row * _ROW + 4, max(1.0, room * bar.texts_per_second / most)
        faster = f" · {times(bar.texts_per_second, baseline)}×" if baseline > 0 else ""
        note = " · a gate failed" if bar.kind == "failed" else ""
        drawing.text(_LEFT - 10, top + 15, clip(bar.name, _LABEL), "strong" if bar.kind == "chosen" else "", "end")
        drawing.bar(_LEFT, top, width, _ROW - 8, f"bar {bar.kind}", f"{bar.name}: {bar.texts_per_second:g} texts/s")
        drawing.text(_LEFT + width + 8, top + 15, f"{figure(bar.texts_per_second)}{faster}{note}", "quiet")
    if baseline > 0:
        at = _LEFT + room * baseline / most
        drawing.line(at, 0, at, _ROW * len(bars) + 4, "mark")
    return drawing.markup()


def latency_dots(surface: Sequence[Timing]) -> Markup:
    """Median and 99th percentile of each point of the surface, on a logarithmic axis of milliseconds."""
    figures = [value for point in surface for value in (point.p50_ms, point.p99_ms) if value > 0]
    low, high = (min(figures), max(figures)) if figures else (1.0, 10.0)
    axis = _Log(low / 1.15, high * 1.15, _LEFT, _WIDTH - 100)
    drawing = Drawing(_WIDTH, _ROW * len(surface) + _AXIS, "Latency of a whole batch: median and 99th percentile")
    bottom = _ROW * len(surface) + 4
    for tick in axis.ticks():
        drawing.line(axis.at(tick), 0, axis.at(tick), bottom, "grid")
        drawing.text(axis.at(tick), bottom + 16, f"{tick:g} ms", "quiet", "middle")
    for row, point in enumerate(surface):
        middle = row * _ROW + 14
        name, left, right = f"{point.batch} × {point.tokens}", axis.at(point.p50_ms), axis.at(point.p99_ms)
        said = f"{name} tokens: p50 {milliseconds(point.p50_ms)}, p99 {milliseconds(point.p99_ms)}"
        drawing.text(_LEFT - 10, middle + 5, name, "", "end")
        drawing.line(left, middle, right, middle, "span")
        drawing.dot(left, middle, 5, "dot", said)
        drawing.dot(right, middle, 5, "dot tail", said)
        drawing.text(right + 12, middle + 5, milliseconds(point.p99_ms), "quiet")
    return drawing.markup()


def reliability(bins: Sequence[dict[str, Any]]) -> Markup:
    """The reliability diagram (Guo et al. 2017, fig. 1): share of right answers by confidence; the diagonal is perfect."""
    side, left, top = 300.0, 60.0, 10.0
    drawing = Drawing(left + side + 20, side + 50, "Reliability: share of right answers by confidence")

    def across(share: float) -> float:
        return left + side * share

    def up(share: float) -> float:
        return top + side * (1 - share)

    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        drawing.line(left, up(share), left + side, up(share), "grid")
        drawing.text(left - 8, up(share) + 5, f"{share:g}", "quiet", "end")
        drawing.text(across(share), top + side + 18, f"{share:g}", "quiet", "middle")
    drawing.line(across(0), up(0), across(1), up(1), "mark")
    most = max((int(one["count"]) for one in bins), default=1) or 1
    points = [(across(one["confidence"]), up(one["accuracy"])) for one in bins]
    drawing.path(points, "span")
    for one, (x, y) in zip(bins, points, strict=True):
        said = f"{one['count']} rows: confidence {percent(one['confidence'])}, right {percent(one['accuracy'])}"
        drawing.dot(x, y, 3 + 6 * math.sqrt(int(one["count"]) / most), "dot", said)
    drawing.text(left + side / 2, top + side + 36, "confidence", "quiet", "middle")
    return drawing.markup()


@dataclass(frozen=True, slots=True)
class _Log:
    """A logarithmic axis from `low` to `high`, drawn from `left` to `right`."""

    low: float
    high: float
    left: float
    right: float

    def at(self, value: float) -> float:
        """The place of a value; those outside lie on the border."""
        span = math.log(self.high / self.low)
        share = math.log(max(value, self.low) / self.low) / span if span > 0 else 0.0
        return self.left + (self.right - self.left) * min(share, 1.0)

    def ticks(self) -> list[float]:
        """1, 2 and 5 times powers of ten that lie on the axis; powers of ten alone where those are many."""
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        all_ticks = [factor * 10.0**exponent for exponent in exponents for factor in (1, 2, 5)]
        shown = [tick for tick in all_ticks if self.low <= tick <= self.high]
        return shown if len(shown) <= 6 else [tick for tick in shown if math.log10(tick) % 1 == 0]
