"""Which requests get spans: all while there are few, a share of them when there are many, a smaller one when there are very
many, and all that are copied.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind
from opentelemetry.trace.span import TraceState
from opentelemetry.util.types import Attributes

from tapchanger_serving.contract import names

ALL_UP_TO = 20
"""Requests in a second that are traced whatever the share: a canary that gets one a second must show where its time goes
within a few of them, and twenty spans cost a server half a percent of a core.
"""
MOST = 200
"""Of the others, about so many in a second at the most, however many there are: telling more costs, and teaches nothing."""


class Sparing(Sampler):
    """The first `all_up_to` requests of each second, and `share` of the others by their trace id; less than `share` where that
    would be more than `most`, as the second before says. What a request was like has no part in it.

    `clock` gives seconds. It is asked for whole requests only (see :func:`sampler`).
    """

    def __init__(
        self,
        share: float,
        all_up_to: int = ALL_UP_TO,
        clock: Callable[[], float] = time.monotonic,
        most: int = MOST,
    ) -> None:
        self._share = share
        self._most = most
        self._rest = TraceIdRatioBased(share)
        self._all_up_to = all_up_to
        self._clock = clock
        self._second = -1
        self._taken = 0

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Whether the request of this span is traced. Of a copied one both halves are needed."""
        if attributes and names.ATTR_MIRROR in attributes:
            return ALWAYS_ON.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        second = int(self._clock())
        if second != self._second:
            before = self._taken if second == self._second + 1 else 0
            self._rest = TraceIdRatioBased(min(self._share, self._most / max(before, 1)))
            self._second, self._taken = second, 0
        self._taken += 1
        chosen = ALWAYS_ON if self._taken <= self._all_up_to else self._rest
        return chosen.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """For people."""
        return f"Sparing{{{self._all_up_to}/s, then {self._rest.get_description()}}}"


def sampler(share: float) -> Sampler:
    """Spans below a server's follow it; whether the router or a client sampled its own spans decides nothing."""
    ours = Sparing(share)
    return ParentBased(root=ours, remote_parent_sampled=ours, remote_parent_not_sampled=ours)
