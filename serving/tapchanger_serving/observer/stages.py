"""What a server's spans say of one request.

Our own text models say it all in one span, with attributes for the parts of the work. Triton's tracer sends three spans
for a request: `InferRequest`, below it the model's (attributes `triton.model_name` and `triton.trace_parent_id`; event
QUEUE_START), and below that `compute` (events COMPUTE_START … COMPUTE_END). A model that is called by another one inside
Triton has `triton.trace_parent_id` other than 0; its time is part of its caller's, so only the outermost model counts.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final, TypeVar

from tapchanger_serving.contract import names
from tapchanger_serving.observer.breakdown import Stage
from tapchanger_serving.observer.spans import TRITON_MODEL, TRITON_PARENT, Span

COMPUTE_SPAN: Final = "compute"
_NANO: Final = 1e9
_LONGEST: Final = 1e5
_MOST: Final = 10**9

T = TypeVar("T")


class Pairing:
    """Joins model and compute spans by span id, in whatever order and payload they come.

    Halves that wait for their partner are bounded by `limit`; the oldest are forgotten.
    """

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._queued: OrderedDict[bytes, int] = OrderedDict()
        self._computed: OrderedDict[bytes, tuple[int, int]] = OrderedDict()

    def offer(self, span: Span) -> Stage | None:
        """Take one of a server's spans; a stage comes back when it completes one.

        Raises ValueError with a plain message for a number that is none.
        """
        if TRITON_MODEL in span.attributes:
            return self._model(span)
        if span.name == COMPUTE_SPAN:
            return self._compute(span)
        return None

    def _model(self, span: Span) -> Stage | None:
        queued = dict(span.events).get("QUEUE_START")
        computed = self._computed.pop(span.span_id, None)
        if queued is None or span.attributes.get(TRITON_PARENT, "0") != "0":
            return None
        if names.ATTR_COMPUTE in span.attributes:
            return _whole(span, queued)
        if computed is None:
            self._keep(self._queued, span.span_id, queued)
            return None
        return _stage(queued, computed)

    def _compute(self, span: Span) -> Stage | None:
        events = dict(span.events)
        computed = (events.get("COMPUTE_START", span.start), events.get("COMPUTE_END", span.end))
        queued = self._queued.pop(span.parent_id, None)
        if queued is None:
            self._keep(self._computed, span.parent_id, computed)
            return None
        return _stage(queued, computed)

    def _keep(self, waiting: OrderedDict[bytes, T], key: bytes, value: T) -> None:
        waiting[key] = value
        if len(waiting) > self._limit:
            waiting.popitem(last=False)


def _stage(queued: int, computed: tuple[int, int]) -> Stage:
    started, ended = computed
    return Stage(ended / _NANO, max(0.0, (started - queued) / _NANO), max(0.0, (ended - started) / _NANO))


def _whole(span: Span, queued: int) -> Stage:
    """What one of our spans says: the parts of the work, and the waiting as what remains since `queued`."""
    attributes = span.attributes
    pre, compute, post = (_seconds(attributes, name) for name in (names.ATTR_PRE, names.ATTR_COMPUTE, names.ATTR_POST))
    return Stage(
        end=span.end / _NANO,
        queue=max(0.0, (span.end - queued) / _NANO - pre - compute - post),
        compute=compute,
        pre=pre,
        post=post,
        tokens=_count(attributes, names.ATTR_TOKENS),
        rows=_count(attributes, names.ATTR_BATCH),
        node=attributes.get(names.ATTR_NODE, "")[:253],
    )


def _seconds(attributes: dict[str, str], name: str) -> float:
    text = attributes.get(name, "0")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= _LONGEST:
        raise ValueError(f"{name}: found {text[:32]!r}, expected seconds")
    return value


def _count(attributes: dict[str, str], name: str) -> int:
    text = attributes.get(name, "0")
    if not (text.isascii() and text.isdigit() and int(text[:10]) <= _MOST):
        raise ValueError(f"{name}: found {text[:32]!r}, expected a number")
    return int(text[:10])
