"""Spans of the requests that a text model answers, as children of the router's.

Triton's own tracer is not used (docs/adr/0008-own-server-spans.md), but the spans have its form: one of the model, from
the moment that the router got the request, with the event QUEUE_START then; below it `preprocess`, `compute` (with
COMPUTE_START and COMPUTE_END) and `postprocess`, of the whole batch. A batch of several chunks prepares and finishes
those in the middle between the engine's runs, which is within its `compute` span; the exact sums are attributes of the
model's span. Spans hold nothing of a text but numbers, by which a change of traffic can be seen
(:mod:`~tapchanger_serving.backends.described`), and of answers the labels.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tapchanger_serving.backends import answered, log
from tapchanger_serving.backends.sampling import sampler
from tapchanger_serving.contract import names
from tapchanger_serving.engines.answers import Answers
from tapchanger_serving.engines.phases import Phases

ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
SHARE = "OTEL_TRACES_SAMPLER_ARG"
FORWARDED_HEADERS = (names.TRACEPARENT_HEADER, names.REQUEST_START_HEADER, names.MIRROR_HEADER)
FLUSH_MILLISECONDS = 1000
_START = re.compile(r"t=(\d{1,10})(?:\.(\d{1,9}))?")
_NANO = 1e9
_LONGEST_WAIT = 600 * 10**9
"""An older start comes from a clock that is wrong."""


@dataclass(frozen=True)
class Traced:
    """One request of a batch: the headers that Triton handed on, whether it got no answer, its number of tokens (0
    where that isn't known), what was answered, and what describes one of its texts, chosen by a random number.
    """

    headers: Mapping[str, object]
    failed: bool
    tokens: int = 0
    answer: Answers | None = None
    describe: Callable[[int], Mapping[str, str | float]] | None = None

    @property
    def mirror(self) -> str | None:
        """The revision that gets a copy of the request; None for one that isn't copied."""
        found = self.headers.get(names.MIRROR_HEADER)
        return found if isinstance(found, str) and found else None


def headers(parameters: str) -> Mapping[str, object]:
    """The forwarded headers among a request's parameters, which Triton gives as JSON."""
    found = json.loads(parameters) if parameters else {}
    return {name: found[name] for name in FORWARDED_HEADERS if name in found}


def started(value: object, now: int) -> int | None:
    """Nanoseconds since the epoch of an `x-request-start`, no later than `now`; None where it says nothing credible."""
    match = _START.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    begin = int(match[1]) * 10**9 + int((match[2] or "").ljust(9, "0"))
    return min(begin, now) if now - begin < _LONGEST_WAIT else None


class Tracer:
    """Makes the spans of one model. Sampling, batching and sending are the SDK's; none of them holds up an answer."""

    def __init__(self, provider: TracerProvider, model: str) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("tapchanger")
        self._propagator = TraceContextTextMapPropagator()
        self._model = model

    @classmethod
    def from_environment(cls, model: str) -> Tracer | None:
        """As OpenTelemetry's variables say, but that a second's first requests are always sampled; None where no receiver
        is named.
        """
        if not os.environ.get(ENDPOINT):
            return None
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from tapchanger_serving.backends.credential import session

        _tell_once(logging.getLogger("opentelemetry"))
        # Threads of the exporter's own end with the process; a receiver that is away must not hold it up.
        provider = TracerProvider(sampler(float(os.environ.get(SHARE, "1"))), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(session=session())))
        return cls(provider, model)

    def record(self, requests: Iterable[Traced], phases: Phases, rows: int) -> None:
        """Spans of a batch of `rows` texts.

        A request without the router's headers, such as a warm-up, gets none.
        """
        shared: dict[str, str | int | float] = {
            "triton.model_name": self._model,
            "triton.model_version": 1,
            names.ATTR_BATCH: rows,
            names.ATTR_PRE: phases.pre / _NANO,
            names.ATTR_COMPUTE: phases.compute / _NANO,
            names.ATTR_POST: phases.post / _NANO,
        }
        for request in requests:
            if request.headers:
                self._record(request, phases, shared)

    def flush(self) -> None:
        """Sends what waits, for a second at most."""
        self._provider.force_flush(FLUSH_MILLISECONDS)

    def _record(self, request: Traced, phases: Phases, shared: Mapping[str, str | int | float]) -> None:
        parent = self._parent(request.headers.get(names.TRACEPARENT_HEADER))
        begin, end = phases.begin, phases.end
        queued = started(request.headers.get(names.REQUEST_START_HEADER), begin)
        copied = {} if request.mirror is None else {names.ATTR_MIRROR: request.mirror}
        span = self._tracer.start_span(
            self._model, parent, trace.SpanKind.SERVER, copied, start_time=begin if queued is None else queued
        )
        if span.is_recording():
            span.set_attributes({**shared, names.ATTR_TOKENS: request.tokens} if request.tokens else shared)
            sure = None if request.answer is None else answered.confidence(request.answer)
            if sure is not None:
                span.set_attribute(names.ATTR_CONFIDENCE, sure)
            told = None if request.answer is None else answered.labels(request.answer)
            if told is not None:
                span.set_attribute(names.ATTR_ANSWERED, told)
            if request.describe is not None:
                span.set_attributes(request.describe(span.get_span_context().trace_id))
            if copied and request.answer is not None:
                span.set_attribute(names.ATTR_ANSWERS, answered.words(request.answer))
            if queued is not None:
                span.add_event("QUEUE_START", timestamp=queued)
            if request.failed:
                span.set_status(trace.StatusCode.ERROR)
            within = trace.set_span_in_context(span)
            self._tracer.start_span("preprocess", within, start_time=begin).end(phases.computing)
            if phases.compute:
                compute = self._tracer.start_span("compute", within, start_time=phases.computing)
                compute.add_event("COMPUTE_START", timestamp=phases.computing)
                compute.add_event("COMPUTE_END", timestamp=phases.computed)
                compute.end(phases.computed)
                self._tracer.start_span("postprocess", within, start_time=phases.computed).end(end)
        span.end(end)

    def _parent(self, traceparent: object) -> Context:
        carrier = {names.TRACEPARENT_HEADER: traceparent} if isinstance(traceparent, str) else {}
        return self._propagator.extract(carrier, Context())


def _tell_once(logger: logging.Logger) -> None:
    """The first complaint of the exporter becomes a line of ours; a receiver that is away would repeat it for ever."""

    class Once(logging.Handler):
        told = False

        def emit(self, record: logging.LogRecord) -> None:
            if not self.told:
                self.told = True
                log.write("warning", "traces are not delivered; not logged again", error=record.getMessage())

    logger.addHandler(Once(logging.WARNING))
    logger.propagate = False
