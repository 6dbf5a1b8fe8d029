"""Where Triton's time goes: queue and compute of one request, put together from two of its spans.

Triton sends three spans for a request: `InferRequest`, below it the model's (attributes `triton.model_name` and
`triton.trace_parent_id`; event QUEUE_START), and below that `compute` (events COMPUTE_START … COMPUTE_END). A model
that is called by another one inside Triton has `triton.trace_parent_id` other than 0; its time is part of its caller's,
so only the outermost model counts.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, TypeVar

from tapchanger_serving.observer.bucket import Stage
from tapchanger_serving.observer.spans import TRITON_MODEL, TRITON_PARENT, Span

COMPUTE_SPAN: Final = "compute"
_NANO: Final = 1e9

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
        """Take one of Triton's spans; a stage comes back when it completes one."""
        if TRITON_MODEL in span.attributes:
            return self._model(span)
        if span.name == COMPUTE_SPAN:
            return self._compute(span)
        return None

    def _model(self, span: Span) -> Stage | None:
        queued = dict(span.events).get("QUEUE_START")
        if queued is None or span.attributes.get(TRITON_PARENT, "0") != "0":
            self._computed.pop(span.span_id, None)
            return None
        computed = self._computed.pop(span.span_id, None)
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
