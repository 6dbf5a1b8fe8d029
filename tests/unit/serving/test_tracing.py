"""The server's spans say how long a request waited and was worked on, below the router's span."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import StatusCode

from tapchanger_serving.backends.sampling import ALL_UP_TO, Sparing, sampler
from tapchanger_serving.backends.tracing import ENDPOINT, Traced, Tracer, headers, started
from tapchanger_serving.engines.phases import COMPUTE, POST, PRE, Phases, Watch

TRACE, ROUTER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECOND = 10**9
BEGIN, END = 1_700_000_000 * SECOND, 1_700_000_000 * SECOND + 4_000_000
PHASES = Phases(BEGIN, BEGIN + 1_000_000, BEGIN + 3_500_000, END, 1_200_000, 2_000_000, 800_000)
"""Two chunks: 0.7 ms of padding and post-processing lie between the engine's runs."""


def spans(*requests: Traced, sampler: Sampler = ALWAYS_ON, phases: Phases = PHASES) -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    Tracer(provider, "moderation").record(requests, phases, 9)
    return list(exporter.get_finished_spans())


def traced(failed: bool = False, tokens: int = 0, **values: str) -> Traced:
    return Traced({name.replace("_", "-"): value for name, value in values.items()}, failed, tokens)


def test_the_models_span_is_the_routers_child_and_begins_when_the_router_got_the_request() -> None:
    *parts, model = spans(traced(traceparent=f"00-{TRACE}-{ROUTER}-01", x_request_start="t=1699999999.998"))
    assert {span.context.trace_id for span in (*parts, model)} == {int(TRACE, 16)}
    assert model.parent
    assert model.parent.span_id == int(ROUTER, 16)
    assert {part.parent and part.parent.span_id for part in parts} == {model.context.span_id}
    assert (model.start_time, model.end_time) == (BEGIN - 2_000_000, END)
    assert [(event.name, event.timestamp) for event in model.events] == [("QUEUE_START", BEGIN - 2_000_000)]


def test_pre_processing_compute_and_post_processing_follow_each_other_to_the_end() -> None:
    *parts, model = spans(traced(traceparent=f"00-{TRACE}-{ROUTER}-01", x_request_start="t=1699999999.998"))
    assert [(part.name, part.start_time, part.end_time) for part in parts] == [
        ("preprocess", BEGIN, BEGIN + 1_000_000),
        ("compute", BEGIN + 1_000_000, BEGIN + 3_500_000),
        ("postprocess", BEGIN + 3_500_000, END),
    ]
    assert [event.name for event in parts[1].events] == ["COMPUTE_START", "COMPUTE_END"]
    assert model.attributes
    exact = [model.attributes[f"tapchanger.{part}.duration"] for part in ("preprocess", "compute", "postprocess")]
    assert exact == [0.0012, 0.002, 0.0008]


def test_the_models_span_has_the_number_of_tokens_and_the_size_of_the_batch() -> None:
    *_, known = spans(traced(tokens=17, x_request_start="t=1"))
    *_, unknown = spans(traced(x_request_start="t=1"))
    assert known.attributes
    assert unknown.attributes
    assert (known.attributes["tapchanger.tokens"], known.attributes["tapchanger.batch"]) == (17, 9)
    assert "tapchanger.tokens" not in unknown.attributes


def test_a_client_that_only_brings_a_trace_learns_of_no_waiting() -> None:
    before, *_, model = spans(traced(traceparent=f"00-{TRACE}-{ROUTER}-01"))
    assert model.start_time == before.start_time == BEGIN
    assert not model.events


def test_a_batch_that_never_reached_the_engine_was_pre_processing() -> None:
    found = spans(traced(True, x_request_start="t=1"), phases=Phases(BEGIN, END, END, END, END - BEGIN, 0, 0))
    assert [span.name for span in found] == ["preprocess", "moderation"]


def test_a_copied_request_says_whom_it_was_copied_to_and_what_was_answered() -> None:
    answer = {"label": np.array([[b"toxic"], [b"ok"]], dtype=np.object_)}
    request = Traced({"x-request-start": "t=1", "x-tapchanger-mirror": "8fa1e2077b"}, False, 9, answer)
    *_, model = spans(request)
    assert model.attributes
    assert model.attributes["tapchanger.mirror"] == "8fa1e2077b"
    assert json.loads(str(model.attributes["tapchanger.answers"])) == {"labels": ["toxic", "ok"]}
    *_, failed = spans(replace(request, failed=True, answer=None))
    assert failed.attributes
    assert "tapchanger.answers" not in failed.attributes
    *_, other = spans(replace(request, headers={"x-request-start": "t=1"}))
    assert other.attributes
    assert not {"tapchanger.answers", "tapchanger.mirror"} & set(other.attributes)


def test_of_copied_requests_all_are_sampled() -> None:
    copied = Traced({"x-request-start": "t=1", "x-tapchanger-mirror": "8fa1e2077b"}, False)
    plain = Traced({"x-request-start": "t=1"}, False)
    sparing = sampler(0.0)
    found = spans(*[plain] * (ALL_UP_TO + 5), *[copied] * 5, sampler=sparing)
    models = [span for span in found if span.name == "moderation"]
    assert len(models) == ALL_UP_TO + 5
    assert sum("tapchanger.mirror" in (span.attributes or {}) for span in models) == 5


def test_warm_up_requests_have_no_spans() -> None:
    assert spans(traced()) == []


def test_a_failed_request_is_an_error() -> None:
    found = spans(traced(True, x_request_start="t=1"), traced(x_request_start="t=1"))
    failed, fine = (span for span in found if span.name == "moderation")
    assert failed.status.status_code == StatusCode.ERROR
    assert fine.status.status_code == StatusCode.UNSET


def test_requests_that_are_not_sampled_have_no_spans() -> None:
    assert spans(traced(traceparent=f"00-{TRACE}-{ROUTER}-01"), sampler=ALWAYS_OFF) == []


def test_the_first_requests_of_a_second_are_traced_and_a_share_of_the_others() -> None:
    now = [0.0]
    sparing = Sparing(0.1, all_up_to=20, clock=lambda: now[0])
    chance = random.Random(1)

    def sampled(number: int) -> int:
        drawn = (sparing.should_sample(None, chance.getrandbits(128), "x") for _ in range(number))
        return sum(result.decision.is_sampled() for result in drawn)

    assert sampled(20) == 20
    assert 50 < sampled(1000) < 150
    now[0] = 1.5
    assert sampled(20) == 20


def test_a_very_busy_server_tells_of_a_smaller_share() -> None:
    now, chance = [0.0], random.Random(1)
    sparing = Sparing(0.1, all_up_to=20, clock=lambda: now[0], most=50)

    def sampled(number: int) -> int:
        drawn = (sparing.should_sample(None, chance.getrandbits(128), "x") for _ in range(number))
        return sum(result.decision.is_sampled() for result in drawn)

    assert 220 < sampled(3000) < 420  # nobody knows yet that it is that many
    now[0] = 1.0
    assert 40 < sampled(3000) < 110
    now[0] = 3.0  # after a second without any
    assert 220 < sampled(3000) < 420


def test_a_traced_request_has_all_of_its_spans_and_another_none() -> None:
    requests = [traced(traceparent=f"00-{n + 1:032x}-{ROUTER}-00", x_request_start="t=1") for n in range(ALL_UP_TO + 5)]
    found = spans(*requests, sampler=sampler(0.0))
    assert len(found) == 4 * ALL_UP_TO


def test_a_watch_gives_each_phase_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100, 107, 120, 121, 124, 150, 160])
    monkeypatch.setattr("tapchanger_serving.engines.phases.time.time_ns", lambda: next(times))
    watch = Watch.__new__(Watch)
    watch.start()
    for phase in (COMPUTE, POST, PRE, COMPUTE, POST):
        watch.enter(phase)
    assert watch.stop() == Phases(100, 107, 150, 160, pre=7 + 3, compute=13 + 26, post=1 + 10)


def test_a_watch_whose_engine_never_ran_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([5, 9])
    monkeypatch.setattr("tapchanger_serving.engines.phases.time.time_ns", lambda: next(times))
    watch = Watch.__new__(Watch)
    watch.start()
    assert watch.stop() == Phases(5, 9, 9, 9, 4, 0, 0)


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
