"""Latency, measured turn by turn: each round runs every engine once, so that noise of the machine hits all alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.contract.messages import Shapes, Timing
from tapchanger_serving.contract.names import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS
from tapchanger_serving.engines.text import Tensors

Runner = Callable[[Tensors], object]
Clock = Callable[[], float]

_REFERENCE = (8, 64)
_GRID = ((1, 16), (1, 64), (8, 16), (8, 64), (32, 64), (8, 256))
_WARM_UP = 2


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure one point: at least `min_rounds`, then until `seconds` are over or `max_rounds` are done."""

    min_rounds: int = 7
    max_rounds: int = 60
    seconds: float = 3.0


def reference_point(shapes: Shapes) -> tuple[int, int]:
    """Batch 8 × 64 tokens, or the largest that the shapes allow."""
    return min(_REFERENCE[0], shapes.max_batch_size), min(_REFERENCE[1], shapes.max_tokens)


def grid(shapes: Shapes) -> tuple[tuple[int, int], ...]:
    """The points of the latency surface that the shapes allow, the reference point among them."""
    capped = {(min(batch, shapes.max_batch_size), min(tokens, shapes.max_tokens)) for batch, tokens in _GRID}
    return tuple(sorted(capped))


def full_batch(texts: Encoded, batch: int, tokens: int) -> Tensors:
    """A batch without padding, made of the comparison texts' own token ids."""
    ids = np.resize(
        np.concatenate([np.array(encoding.ids, dtype=np.int64) for encoding in texts.encodings]), (batch, tokens)
    )
    values = {INPUT_IDS: ids, ATTENTION_MASK: np.ones_like(ids), TOKEN_TYPE_IDS: np.zeros_like(ids)}
    return {name: values[name] for name in texts.tokenizer.inputs}


def interleave(
    runners: Mapping[str, Runner],
    feeds: Tensors,
    effort: Effort,
    clock: Clock = time.perf_counter,
    *,
    pause: float = 0.0,
) -> dict[str, list[float]]:
    """Seconds of every call, by runner. Each round has its own random order, so no runner always follows the same one.

    `pause` (seconds) goes before each call: threads that spin after their work would slow whoever is next.
    """
    names = list(runners)
    for name in names:
        for _ in range(_WARM_UP):
            runners[name](feeds)
    taken: dict[str, list[float]] = {name: [] for name in names}
    order = np.random.default_rng(0)
    began = clock()
    for number in range(effort.max_rounds):
        if number >= effort.min_rounds and clock() - began >= effort.seconds:
            break
        for index in order.permutation(len(names)):
            if pause:
                time.sleep(pause)
            start = clock()
            runners[names[index]](feeds)
            taken[names[index]].append(clock() - start)
    return taken


def timing(batch: int, tokens: int, seconds: Sequence[float]) -> Timing:
    """Median and 99th percentile (nearest rank) of one point."""
    ordered = sorted(seconds)
    return Timing(
        batch=batch,
        tokens=tokens,
        p50_ms=round(median(ordered) * 1e3, 3),
        p99_ms=round(ordered[math.ceil(0.99 * len(ordered)) - 1] * 1e3, 3),
    )


def median(seconds: Sequence[float]) -> float:
    """The median."""
    return float(np.median(seconds))
