from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapchanger_serving.observer import otlp_json
from tapchanger_serving.observer.ingest import MOST_WAITING, Ingest, Result
from tapchanger_serving.observer.spans import Span
from tapchanger_serving.observer.stages import Pairing
from tapchanger_serving.observer.windows import Limits, Windows

NOW = 1_700_000_000.0
NANO = 1_000_000_000
TRITON = (Path(__file__).parent / "triton_export.json").read_bytes()


def router_span(number: int = 0, *, ago: float = 1, seconds: float = 0.1, kind: int = 2, **attributes: str) -> Span:
    end = round((NOW - ago) * NANO)
    defaults = {
        "tapchanger.component": "router",
        "tapchanger.namespace": "default",
        "tapchanger.deployment": "moderation",
        "tapchanger.revision": "r1",
        "http.status_code": "200",
        "response_flags": "-",
    }
    given_ones = {name.replace("__", "."): value for name, value in attributes.items()}
    kept = {name: value for name, value in {**defaults, **given_ones}.items() if value != "-absent-"}
    start = round(end - seconds * NANO)
    ids = number.to_bytes(16, "big"), number.to_bytes(8, "big")
    return Span(*ids, b"", "ingress", kind, start, end, kept, ())


def ingest(limits: Limits | None = None, remembered_spans: int = 1_000) -> tuple[Ingest, Windows]:
    windows = Windows(limits)
    return Ingest(windows, lambda: NOW, remembered_spans=remembered_spans), windows


def requests(windows: Windows, deployment: str = "moderation") -> int:
    return sum(bucket.requests for bucket in windows.window("default", deployment, 0, NOW + 10).values())


def test_every_span_is_accounted_for() -> None:
    taker, windows = ingest()
    spans = [
        router_span(1),
        router_span(2, http__status_code="503"),
        router_span(2, http__status_code="503"),
        router_span(3, kind=3),
        router_span(4, tapchanger__revision="-absent-"),
        router_span(5, tapchanger__component="-absent-"),
        router_span(6, tapchanger__namespace=""),
        router_span(7, tapchanger__revision="r" * 254),
        router_span(8, http__status_code="OK"),
        router_span(9, ago=100_000),
        router_span(10, seconds=-1),
    ]
    result = taker.take(spans, "grpc")
    assert (result.spans, result.refused) == (11, 5)
    assert "tapchanger.namespace" in result.why
    assert taker.account.received == {"grpc": 11}
    assert taker.account.refused == {("grpc", "malformed"): 4, ("grpc", "late"): 1}
    assert taker.account.ignored == {
        ("grpc", "duplicate"): 1,
        ("grpc", "upstream"): 1,
        ("grpc", "no_revision"): 1,
        ("grpc", "foreign"): 1,
    }
    found = windows.window("default", "moderation", 0, NOW)["r1"]
    assert (found.requests, found.unavailable, found.codes) == (2, 1, {"http/503": 1})


def test_a_span_from_the_future_counts_as_ending_now() -> None:
    taker, windows = ingest()
    assert taker.take([router_span(1, ago=-3), router_span(2, ago=-60)], "grpc") == Result(2, 0, "")
    assert taker.account.clamped == 1
    assert windows.window("default", "moderation", 0, NOW + 10)["r1"].last == NOW + 3
    assert windows.window("default", "moderation", NOW, NOW + 1)["r1"].first == NOW


def test_a_late_span_counts_where_it_ended() -> None:
    taker, windows = ingest()
    taker.take([router_span(1, ago=7_300), router_span(2, ago=1)], "grpc")
    assert windows.window("default", "moderation", NOW - 7_301, NOW - 7_299)["r1"].requests == 1


def test_spans_without_ids_are_never_taken_for_duplicates() -> None:
    taker, windows = ingest()
    taker.take([router_span(0)._replace(trace_id=b"", span_id=b"")] * 2, "grpc")
    assert requests(windows) == 2


def test_duplicates_are_known_for_at_least_the_promised_number_of_spans() -> None:
    taker, windows = ingest(remembered_spans=10)
    taker.take([router_span(number) for number in range(1, 12)], "grpc")
    taker.take([router_span(number) for number in range(2, 12)], "grpc")
    assert requests(windows) == 11


@given(st.lists(st.integers(min_value=0, max_value=20), max_size=40), st.randoms())
def test_neither_order_nor_repetition_changes_a_window(numbers: list[int], chance: random.Random) -> None:
    def spans(order: list[int]) -> list[Span]:
        return [
            router_span(n, ago=n * 30, seconds=n / 100 + 0.001, http__status_code=("200", "500")[n % 2]) for n in order
        ]

    once, repeated = ingest(), ingest()
    once[0].take(spans(sorted(set(numbers))), "grpc")
    chance.shuffle(numbers)
    repeated[0].take(spans(numbers), "grpc")
    windows: list[Any] = [each[1].window("default", "moderation", 0, NOW) for each in (once, repeated)]
    assert windows[0] == windows[1]


def test_triton_s_spans_become_stages_of_the_outermost_model() -> None:
    windows = Windows()
    taker = Ingest(windows, lambda: 1_795_500_130.0)
    assert taker.take(otlp_json.decode(TRITON), "http_json").refused == 0
    parts = windows.window("default", "m", 0, 1_795_500_130)["r1"].parts
    assert parts
    found = parts.every
    assert (found.spans, found.joined) == (3, 0)
    assert round(found.queue * 1e9) == (812198077 - 807055469) + (942466344 - 937351387) + (988287264 - 983163023)
    assert round(found.compute * 1e9) == (918815917 - 812198077) + (969274494 - 942466344) + (1051697320 - 988287264)
    assert taker.account.ignored == {("http_json", "part"): 8}


@given(st.randoms())
def test_stages_do_not_depend_on_the_order_of_spans(chance: random.Random) -> None:
    spans = [span for span in otlp_json.decode(TRITON) if span.attributes.get("triton.trace_parent_id", "0") == "0"]
    chance.shuffle(spans)
    pairing = Pairing()
    stages = [stage for stage in map(pairing.offer, spans) if stage is not None]
    assert sorted(round(stage.queue * 1e6) for stage in stages) == [5115, 5124, 5143]


def test_halves_that_never_meet_are_bounded() -> None:
    pairing = Pairing(limit=10)
    compute = next(otlp_json.decode(TRITON))
    for number in range(100):
        assert pairing.offer(compute._replace(parent_id=number.to_bytes(8, "big"))) is None
    assert len(pairing._computed) == 10


def server_span(number: int = 0, *, ago: float = 1.01, took: float = 0.09, parent: int | None = None) -> Span:
    """What a text model says of the request whose router's span is `number`: 20 ms of work after waiting."""
    end = round((NOW - ago) * NANO)
    start = round(end - took * NANO)
    attributes = {
        "tapchanger.component": "server",
        "tapchanger.namespace": "default",
        "tapchanger.deployment": "moderation",
        "tapchanger.revision": "r1",
        "triton.model_name": "moderation",
        "tapchanger.preprocess.duration": "0.004",
        "tapchanger.compute.duration": "0.015",
        "tapchanger.postprocess.duration": "0.001",
        "tapchanger.tokens": "130",
        "tapchanger.batch": "3",
        "k8s.node.name": "node-a",
    }
    trace, above = number.to_bytes(16, "big"), (number if parent is None else parent).to_bytes(8, "big")
    own = (number + 2**32).to_bytes(8, "big")
    return Span(trace, own, above, "moderation", 2, start, end, attributes, (("QUEUE_START", start),))


@given(st.permutations([router_span(n, http__status_code=("200", "500")[n % 2]) for n in range(1, 7)]), st.randoms())
def test_the_spans_of_a_request_meet_in_any_order(routers: list[Span], chance: random.Random) -> None:
    spans = [*routers, *(server_span(number) for number in range(1, 5))]
    chance.shuffle(spans)
    taker, windows = ingest()
    windows.watch("default", "moderation", (0.05, 0.5))
    taker.take([*spans, *spans], "grpc")
    parts = windows.window("default", "moderation", 0, NOW)["r1"].parts
    assert parts
    every = parts.every
    assert (every.spans, every.joined, every.rows, every.tokens) == (4, 4, 12, 520)
    assert [round(total / 4, 6) for total in (every.queue, every.pre, every.compute, every.post, every.network)] == [
        0.07, 0.004, 0.015, 0.001, 0.01,
    ]  # fmt: skip
    assert {threshold: sums.spans for threshold, sums in parts.slow.items()} == {0.05: 2}
    assert {kind: length.requests for kind, length in parts.lengths.items()} == {8: 2}
    assert {name: (node.requests, node.failed) for name, node in parts.nodes.items()} == {"node-a": (4, 2)}


def test_a_server_s_span_below_another_span_of_the_same_trace_is_not_joined() -> None:
    taker, windows = ingest()
    taker.take([router_span(1), server_span(1, parent=9)], "grpc")
    parts = windows.window("default", "moderation", 0, NOW)["r1"].parts
    assert parts
    assert (parts.every.spans, parts.every.joined) == (1, 0)


def test_servers_without_a_router_are_bounded() -> None:
    taker, _ = ingest(remembered_spans=100_000)
    taker.take((server_span(number) for number in range(1, MOST_WAITING + 50)), "grpc")
    assert len(taker._waiting) == MOST_WAITING


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("tapchanger.compute.duration", "fast"),
        ("tapchanger.preprocess.duration", "-1"),
        ("tapchanger.postprocess.duration", "nan"),
        ("tapchanger.tokens", "many"),
        ("tapchanger.batch", "-3"),
    ],
)
def test_a_figure_that_is_none_is_refused_by_name(attribute: str, value: str) -> None:
    taker, windows = ingest()
    bad = server_span(1)
    result = taker.take([bad._replace(attributes={**bad.attributes, attribute: value})], "grpc")
    assert result.refused == 1
    assert attribute in result.why
    assert not windows.window("default", "moderation", 0, NOW)
