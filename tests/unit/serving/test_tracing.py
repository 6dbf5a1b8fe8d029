"""The server's spans say how long a request waited and was worked on, below the router's span."""

from __future__ import annotations

import json

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import StatusCode

from tapchanger_serving.backends.tracing import ENDPOINT, Traced, Tracer, headers, started

TRACE, ROUTER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECOND = 10**9
BEGIN, END = 1_700_000_000 * SECOND, 1_700_000_000 * SECOND + 4_000_000


def spans(*requests: Traced, sampler: Sampler = ALWAYS_ON) -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    Tracer(provider, "moderation").record(requests, BEGIN, END)
    return list(exporter.get_finished_spans())


def traced(failed: bool = False, **values: str) -> Traced:
    return Traced({name.replace("_", "-"): value for name, value in values.items()}, failed)


def test_the_models_span_is_the_routers_child_and_begins_when_the_router_got_the_request() -> None:
    compute, model = spans(traced(traceparent=f"00-{TRACE}-{ROUTER}-01", x_request_start="t=1699999999.998"))
    assert model.context.trace_id == compute.context.trace_id == int(TRACE, 16)
    assert model.parent
    assert model.parent.span_id == int(ROUTER, 16)
    assert compute.parent
    assert compute.parent.span_id == model.context.span_id
    assert (model.start_time, model.end_time) == (BEGIN - 2_000_000, END)
    assert [(event.name, event.timestamp) for event in model.events] == [("QUEUE_START", BEGIN - 2_000_000)]
    assert [(event.name, event.timestamp) for event in compute.events] == [
        ("COMPUTE_START", BEGIN),
        ("COMPUTE_END", END),
    ]


def test_a_client_that_only_brings_a_trace_learns_of_the_engine_alone() -> None:
    compute, model = spans(traced(traceparent=f"00-{TRACE}-{ROUTER}-01"))
    assert model.start_time == compute.start_time == BEGIN
    assert not model.events


def test_warm_up_requests_have_no_spans() -> None:
    assert spans(traced()) == []


def test_a_failed_request_is_an_error() -> None:
    (_, failed, _, fine) = spans(traced(True, x_request_start="t=1"), traced(x_request_start="t=1"))
    assert failed.status.status_code == StatusCode.ERROR
    assert fine.status.status_code == StatusCode.UNSET


def test_requests_that_are_not_sampled_have_no_spans() -> None:
    assert spans(traced(traceparent=f"00-{TRACE}-{ROUTER}-01"), sampler=ALWAYS_OFF) == []


@pytest.mark.parametrize("value", [None, 7, "", "t=", "t=abc", "1700000000", "t=1600000000.000", "t=17000000000000"])
def test_a_start_that_is_not_credible_is_none(value: object) -> None:
    assert started(value, BEGIN) is None


def test_a_clock_that_runs_ahead_means_no_waiting() -> None:
    assert started("t=1700000000.500", BEGIN) == BEGIN
    assert started("t=1699999999.25", BEGIN) == BEGIN - SECOND * 3 // 4


def test_only_the_headers_of_a_span_are_read_from_the_parameters() -> None:
    given = {"traceparent": "a", "x-request-start": "b", "authorization": "secret"}
    assert headers(json.dumps(given)) == {"traceparent": "a", "x-request-start": "b"}
    assert headers("") == {}


def test_without_a_receiver_there_is_no_tracer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENDPOINT, raising=False)
    assert Tracer.from_environment("moderation") is None
