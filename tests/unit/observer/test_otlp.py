"""Decoding: protobuf and JSON, what real senders write and what they should not."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tapchanger_serving.observer import otlp_json, wire
from tapchanger_serving.observer.spans import PayloadError, Span

TRITON = (Path(__file__).parent / "triton_export.json").read_bytes()
"""What tritonserver 2.51 sent for four requests: two of a model, one of a model that calls it, one that was refused."""


def export(**attributes: Any) -> ExportTraceServiceRequest:
    message = ExportTraceServiceRequest()
    resource_spans = message.resource_spans.add()
    resource_spans.resource.attributes.add(key="tapchanger.component").value.string_value = "router"
    resource_spans.resource.attributes.add(key="tapchanger.revision").value.string_value = "of the resource"
    span = resource_spans.scope_spans.add().spans.add()
    span.trace_id, span.span_id, span.parent_span_id = b"t" * 16, b"s" * 8, b"p" * 8
    span.name, span.kind = "ingress", 2
    span.start_time_unix_nano, span.end_time_unix_nano = 1_000, 2_000
    span.events.add(name="QUEUE_START", time_unix_nano=1_500)
    for name, value in attributes.items():
        attribute = span.attributes.add(key=name.replace("__", "."))
        kind = {str: "string_value", int: "int_value", bool: "bool_value"}[type(value)]
        setattr(attribute.value, kind, value)
    return message


WANTED = Span(
    b"t" * 16,
    b"s" * 8,
    b"p" * 8,
    "ingress",
    2,
    1_000,
    2_000,
    {"tapchanger.component": "router", "tapchanger.revision": "r1", "http.status_code": "200"},
    (("QUEUE_START", 1_500),),
)


@pytest.mark.parametrize("status", ["200", 200])
def test_protobuf_is_read_with_text_or_number_and_the_span_over_the_resource(status: str | int) -> None:
    message = export(tapchanger__revision="r1", http__status_code=status, http__url="http://a/b?c", request_size=5)
    assert list(wire.decode(message.SerializeToString())) == [WANTED]


def test_an_attribute_whose_value_is_written_before_its_key_is_read_too() -> None:
    message = export(http__status_code="200")
    raw = message.resource_spans[0].scope_spans[0].spans[0].attributes[0].SerializeToString()
    key_length = 2 + raw[1]
    turned = raw[key_length:] + raw[:key_length]
    payload = message.SerializeToString()
    assert payload.count(raw) == 1
    assert next(wire.decode(payload.replace(raw, turned))).attributes["http.status_code"] == "200"


def test_long_keys_and_deep_values_are_skipped() -> None:
    message = export(tapchanger__revision="r1", http__status_code="200", **{"k" * 300: "v", "a": "b" * 300})
    array = message.resource_spans[0].scope_spans[0].spans[0].attributes.add(key="deep").value.array_value
    array.values.add().kvlist_value.values.add(key="tapchanger.revision")
    assert list(wire.decode(message.SerializeToString())) == [WANTED]


@pytest.mark.parametrize("payload", [b"\xff", b"hello", b"\x0a\x05\x12\xff\xff\xff\xff", TRITON])
def test_what_is_no_protobuf_is_refused_in_words(payload: bytes) -> None:
    with pytest.raises(PayloadError, match="ExportTraceServiceRequest"):
        list(wire.decode(payload))


def test_an_attribute_that_is_no_attribute_is_refused() -> None:
    broken = wire._CLASSES["Export"]()
    broken.resource_spans.add().scope_spans.add().spans.add().attributes.append(b"\x12\xff")
    with pytest.raises(PayloadError, match="KeyValue"):
        list(wire.decode(broken.SerializeToString()))


def test_partial_success_is_readable_by_others() -> None:
    answer = ExportTraceServiceResponse.FromString(wire.encode_answer(3, "a span ended 9 s ago"))
    assert (answer.partial_success.rejected_spans, answer.partial_success.error_message) == (3, "a span ended 9 s ago")
    assert wire.encode_answer(0, "") == b""
    assert json.loads(otlp_json.encode_answer(3, "late")) == {
        "partialSuccess": {"rejectedSpans": "3", "errorMessage": "late"}
    }


def test_triton_s_own_json_is_read() -> None:
    spans = list(otlp_json.decode(TRITON))
    assert [span.name for span in spans].count("compute") == 4
    assert {span.attributes["tapchanger.component"] for span in spans} == {"server"}
    first = spans[0]
    assert first.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert first.events[0] == ("COMPUTE_START", 1795500119812198077)
    assert spans[1].attributes["triton.trace_parent_id"] == "0"


def one_span(**fields: Any) -> bytes:
    span = {
        "traceId": (b"t" * 16).hex(),
        "spanId": (b"s" * 8).hex(),
        "parentSpanId": (b"p" * 8).hex(),
        "name": "ingress",
        "kind": 2,
        "startTimeUnixNano": "1000",
        "endTimeUnixNano": "2000",
        "attributes": [
            {"key": "http.status_code", "value": {"intValue": "200"}},
            {"key": "tapchanger.revision", "value": {"stringValue": "r1"}},
            {"key": "other", "value": {"arrayValue": {}}},
        ],
        "events": [{"name": "QUEUE_START", "timeUnixNano": "1500"}],
        **fields,
    }
    resource = {"attributes": [{"key": "tapchanger.component", "value": {"stringValue": "router"}}]}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}).encode()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"traceId": (b"t" * 16).hex().upper()},
        {"traceId": "dHR0dHR0dHR0dHR0dHR0dA==", "spanId": "c3Nzc3Nzc3M=", "parentSpanId": "cHBwcHBwcHA="},
        {"startTimeUnixNano": 1000, "endTimeUnixNano": 2000, "kind": "SPAN_KIND_SERVER"},
        {"start_time_unix_nano": "1000", "startTimeUnixNano": "1000", "unknown": {"new": "field"}},
    ],
)
def test_json_is_read_as_the_standard_has_it_and_as_senders_write_it(fields: dict[str, Any]) -> None:
    assert list(otlp_json.decode(one_span(**fields))) == [WANTED]


def test_protobuf_s_own_json_mapping_is_read() -> None:
    message = export(tapchanger__revision="r1", http__status_code="200")
    assert list(otlp_json.decode(json.dumps(MessageToDict(message)).encode())) == [WANTED]
    snake = MessageToDict(message, preserving_proto_field_name=True)
    assert list(otlp_json.decode(json.dumps(snake).encode())) == [WANTED]


def test_a_bare_span_has_no_ids_no_events_and_no_times() -> None:
    payload: dict[str, Any] = {"resourceSpans": [{"scopeSpans": [{"spans": [{}]}]}]}
    assert list(otlp_json.decode(json.dumps(payload).encode())) == [Span(b"", b"", b"", "", 0, 0, 0, {}, ())]
    assert list(otlp_json.decode(b"{}")) == []


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "found no resourceSpans"),
        (b'{"spans": []}', "found no resourceSpans"),
        (b'{"resourceSpans": 3}', "resourceSpans: found int"),
        (b'{"resourceSpans": [3]}', "resourceSpans: found list"),
        (b'{"resourceSpans": [{"resource": 3}]}', "resource: found int"),
        (one_span(traceId="xyz"), "traceId: found 'xyz', expected 32 hexadecimal digits"),
        (one_span(spanId=7), "spanId: found '7'"),
        (one_span(endTimeUnixNano="soon"), "endTimeUnixNano: found 'soon', expected Unix nanoseconds"),
        (one_span(endTimeUnixNano=-1), "endTimeUnixNano"),
        (one_span(endTimeUnixNano=1.5), "endTimeUnixNano"),
        (one_span(endTimeUnixNano="9" * 5000), "endTimeUnixNano"),
        (one_span(endTimeUnixNano="99999999999999999999"), "endTimeUnixNano"),
        (one_span(name=3), "name: found int"),
        (one_span(kind=[]), "kind: found list"),
        (one_span(events="none"), "events: found str"),
        (one_span(attributes=[{"key": "response_flags", "value": {"arrayValue": {}}}]), "attribute response_flags"),
        (one_span(attributes=[{"key": "response_flags"}]), "attribute response_flags: found null"),
    ],
)
def test_json_that_is_no_export_is_refused_with_the_field_in_words(payload: bytes, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        list(otlp_json.decode(payload))


FIELDS = st.sampled_from(
    ["resource", "scopeSpans", "spans", "attributes", "key", "value", "events", "traceId", "name", "kind"]
)
SHAPED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | FIELDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=10,
)


def only_payload_errors(decode: Callable[[bytes], Any], payload: bytes) -> None:
    with suppress(PayloadError):
        assert all(isinstance(span, Span) for span in decode(payload))


@given(st.dictionaries(st.just("resourceSpans"), st.lists(SHAPED, max_size=3)))
def test_no_json_does_worse_than_being_refused(value: Any) -> None:
    only_payload_errors(otlp_json.decode, json.dumps(value).encode())


@given(st.binary(max_size=200))
def test_no_bytes_do_worse_than_being_refused(payload: bytes) -> None:
    only_payload_errors(wire.decode, payload)
    only_payload_errors(otlp_json.decode, payload)


@given(st.integers(min_value=0), st.integers(min_value=0, max_value=255))
def test_no_flipped_byte_does_worse_than_being_refused(position: int, byte: int) -> None:
    payload = bytearray(export(tapchanger__revision="r1", http__status_code="200").SerializeToString())
    payload[position % len(payload)] = byte
    only_payload_errors(wire.decode, bytes(payload))
