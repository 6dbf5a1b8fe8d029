"""Latency, measured turn by turn: each round every engine has one turn, so that noise of the machine hits all alike.

In its turn an engine runs as on a busy server: the calls that count come after others, which have brought its weights into the
caches and outlasted the threads that still spin for the engine before it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.contract.messages import Shapes, Timing
from tapchanger_serving.contract.names import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS
from tapchanger_serving.engines.text import Tensors

Runner = Callable[[Tensors], object]
Clock = Callable[[], float]
Point = tuple[int, int]
"""Batch and tokens of each of its texts."""

KeyT = TypeVar("KeyT", bound=Hashable)

_REFERENCE = (8, 64)
_BATCHES, _TOKENS = (1, 8, 32), (16, 64, 256)
_WARM_UP, _WARM_SECONDS = 2, 1.0
_LONG = 0.025
"""Seconds of a call that is its own warm-up: what it reads is more than caches hold."""
_LEAD = 0.005
"""Seconds of shorter calls before the ones that count."""
_SHORT_CALLS = 4
"""Calls that count in a turn, where a call is shorter than the lead."""
SETTLED = 512
"""From so many tokens in a batch on, what is far behind stays behind with more."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure one point: at least `min_rounds`, then until `seconds` are over or `max_rounds` are done.

    After `min_rounds`, what takes more than `margin` times as long as the fastest leaves the race.
    """

    min_rounds: int = 7
    max_rounds: int = 60
    seconds: float = 3.0
    margin: float = math.inf


def reference_point(shapes: Shapes) -> tuple[int, int]:
    """Batch 8 × 64 tokens, or the largest that the shapes allow."""
    return min(_REFERENCE[0], shapes.max_batch_size), min(_REFERENCE[1], shapes.max_tokens)


def grid(shapes: Shapes) -> tuple[Point, ...]:
    """The points of the latency surface that the shapes allow, the reference point among them, by the tokens of a batch."""
    capped = {
        (min(batch, shapes.max_batch_size), min(tokens, shapes.max_tokens)) for batch in _BATCHES for tokens in _TOKENS
    }
    return tuple(sorted(capped, key=lambda point: (work(point), point)))


def work(point: Point) -> int:
    """Tokens in a full batch."""
    return point[0] * point[1]


def full_batch(texts: Encoded, batch: int, tokens: int) -> Tensors:
    """A batch without padding, made of the comparison texts' own token ids."""
    ids = np.resize(
        np.concatenate([np.array(encoding.ids, dtype=np.int64) for encoding in texts.encodings]), (batch, tokens)
    )
    values = {INPUT_IDS: ids, ATTENTION_MASK: np.ones_like(ids), TOKEN_TYPE_IDS: np.zeros_like(ids)}
    return {name: values[name] for name in texts.tokenizer.inputs}


def interleave(
    runners: Mapping[KeyT, Runner],
    feeds: Tensors,
    effort: Effort,
    clock: Clock = time.perf_counter,
    *,
    pause: float = 0.0,
) -> dict[KeyT, list[float]]:
    """Seconds of every call that counts, by runner. Each round has its own random order: no runner always follows the same one.

    `pause` (seconds) goes before each turn: some runtimes' threads spin for long after their work.
    """
    for run in runners.values():
        _warm(run, feeds, clock)
    taken: dict[KeyT, list[float]] = {name: [] for name in runners}
    racing = list(runners)
    order = np.random.default_rng(0)
    began = clock()
    for number in range(effort.max_rounds):
        if number >= effort.min_rounds:
            if clock() - began >= effort.seconds:
                break
            racing = near(racing, taken, effort.margin)
        for index in order.permutation(len(racing)):
            if pause:
                time.sleep(pause)
            taken[racing[index]] += _turn(runners[racing[index]], feeds, clock)
    return taken


def _turn(run: Runner, feeds: Tensors, clock: Clock) -> list[float]:
    """Seconds of the calls that count: the first one where it is long, else one or more after it."""

    def timed() -> float:
        start = clock()
        run(feeds)
        return clock() - start

    first = lead = timed()
    if first >= _LONG:
        return [first]
    while lead < _LEAD:
        lead += timed()
    return [timed() for _ in range(_SHORT_CALLS if first < _LEAD else 1)]


def _warm(run: Runner, feeds: Tensors, clock: Clock) -> None:
    """Runtimes prepare for a shape when they first see it."""
    began = clock()
    for _ in range(_WARM_UP):
        run(feeds)
        if clock() - began > _WARM_SECONDS:
            return


def near(names: Sequence[KeyT], taken: Mapping[KeyT, Sequence[float]], margin: float) -> list[KeyT]:
    """Those whose fastest call took at most `margin` times as long as the fastest of all."""
    best = min(min(taken[name]) for name in names)
    return [name for name in names if min(taken[name]) <= margin * best]


def timing(batch: int, tokens: int, seconds: Sequence[float]) -> Timing:
    """Median and 99th percentile (nearest rank) of one point."""
    ordered = sorted(seconds)
    return Timing(
        batch=batch,
        tokens=tokens,
        p50_ms=round(median(ordered) * 1e3, 3),
        p99_ms=round(ordered[math.ceil(0.99 * len(ordered)) - 1] * 1e3, 3),
    )


def undisturbed(seconds: Sequence[float]) -> float:
    """The lower quartile: what else runs on the machine only ever adds to a time, so this moves less than the median does."""
    return float(np.quantile(seconds, 0.25))


def median(seconds: Sequence[float]) -> float:
    """The median."""
    return float(np.median(seconds))
