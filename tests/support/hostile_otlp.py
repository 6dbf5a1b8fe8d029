"""OTLP that nobody should send: broken, huge, nested, and right in every field but one."""

from __future__ import annotations

import gzip
import json
import math
from typing import Any

from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from tapchanger_serving.contract import feedback, names
from tapchanger_serving.observer.spans import WANTED

NOW = 1_800_000_000.0
_NANO = 10**9

odd_text = st.one_of(
    st.sampled_from(
        ("", "0", "-1", "NaN", "inf", "-inf", "1e309", "9" * 400, "²", "router", "server", "\x00", "é" * 300)
    ),
    st.text(max_size=12),
)
odd_number = st.one_of(
    st.sampled_from((0, -1, 1, 2**31, 2**53, 2**63, 2**64 - 1, 2**64, -(2**63), math.nan, math.inf, -math.inf, 1e308)),
    st.integers(int((NOW - 20_000) * _NANO), int((NOW + 60) * _NANO)),
)
odd_json: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), odd_number, odd_text),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(odd_text, inner, max_size=3)),
    max_leaves=8,
)
_key = st.one_of(st.sampled_from(sorted(WANTED)), odd_text)
_value = st.one_of(
    st.builds(lambda text: {"stringValue": text}, odd_text),
    st.builds(lambda kind, value: {kind: value}, st.sampled_from(("intValue", "doubleValue", "boolValue")), odd_number),
    odd_json,
)
_ours = {
    names.ATTR_NAMESPACE: "a",
    names.ATTR_DEPLOYMENT: "b",
    names.ATTR_REVISION: "r",
    "http.status_code": "200",
    "triton.model_name": "m",
    names.ATTR_COMPUTE: "0.1",
}


@st.composite
def _span(draw: st.DrawFn) -> dict[str, Any]:
    """A span of ours with some fields replaced."""
    end = draw(st.integers(int((NOW - 15_000) * _NANO), int((NOW + 20) * _NANO)))
    good = {
        "traceId": draw(st.binary(min_size=16, max_size=16)).hex(),
        "spanId": draw(st.binary(min_size=8, max_size=8)).hex(),
        "parentSpanId": draw(st.binary(min_size=8, max_size=8)).hex(),
        "name": "ingress",
        "kind": 2,
        "startTimeUnixNano": str(end - 10**7),
        "endTimeUnixNano": str(end),
        "events": [{"name": "QUEUE_START", "timeUnixNano": str(end - 10**7)}],
    }
    tags = {**_ours, names.ATTR_COMPONENT: draw(st.sampled_from(("router", "server")))}
    tags |= draw(st.dictionaries(st.sampled_from(sorted(WANTED)), odd_text, max_size=2))
    good["attributes"] = [{"key": key, "value": {"stringValue": value}} for key, value in tags.items()]
    good["attributes"] += draw(st.lists(st.builds(lambda k, v: {"key": k, "value": v}, _key, _value), max_size=2))
    return good | draw(st.dictionaries(st.sampled_from(sorted(good)), odd_json, max_size=1))


@st.composite
def as_json(draw: st.DrawFn) -> bytes:
    """JSON bodies: of the right shape with odd fields, of any shape, cut short, or nested very deeply."""
    kind = draw(st.sampled_from(("spans", "spans", "any", "cut", "deep")))
    if kind == "deep":
        return b'{"resourceSpans":' + draw(st.sampled_from((b"[", b'{"a":'))) * draw(
            st.sampled_from((50, 5_000, 200_000))
        )
    if kind == "any":
        return json.dumps(draw(odd_json)).encode()
    spans = draw(st.lists(_span(), max_size=3))
    body = json.dumps({"resourceSpans": [{"resource": draw(odd_json), "scopeSpans": [{"spans": spans}]}]})
    if draw(st.booleans()):
        body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]})
    return body.encode()[: draw(st.integers(0, len(body)))] if kind == "cut" else body.encode()


@st.composite
def as_protobuf(draw: st.DrawFn) -> bytes:
    """Protobuf bodies: messages with odd fields, some bytes of them changed, and any bytes."""
    if draw(st.booleans()) and draw(st.booleans()):
        return draw(st.binary(max_size=64))
    message = trace_service_pb2.ExportTraceServiceRequest()
    scope = message.resource_spans.add().scope_spans.add()
    for _ in range(draw(st.integers(0, 3))):
        end = draw(st.integers(0, 2**64 - 1) | st.integers(int((NOW - 15_000) * _NANO), int((NOW + 20) * _NANO)))
        span = scope.spans.add(
            trace_id=draw(st.binary(max_size=20)),
            span_id=draw(st.binary(max_size=20)),
            parent_span_id=draw(st.binary(max_size=9)),
            kind=draw(st.integers(0, 5)),
            start_time_unix_nano=max(0, end - draw(st.sampled_from((0, 10**7, 2**40, -(10**6))))) % 2**64,
            end_time_unix_nano=end,
        )
        tags = {**_ours, names.ATTR_COMPONENT: draw(st.sampled_from(("router", "server")))}
        for key, value in (tags | draw(st.dictionaries(st.sampled_from(sorted(WANTED)), odd_text, max_size=2))).items():
            span.attributes.add(key=key).value.string_value = value
        if draw(st.booleans()):
            span.attributes.add(key=draw(_key)).value.double_value = draw(st.floats())
        span.events.add(name="QUEUE_START", time_unix_nano=max(0, end - 10**7))
    body = bytearray(message.SerializeToString())
    for place in draw(st.lists(st.integers(0, max(0, len(body) - 1)), max_size=3)) if body else ():
        body[place] = draw(st.integers(0, 255))
    return bytes(body)


_FEEDBACK = (
    *(f"{feedback.ATTR}{field}" for field in ("id", "label", "correction", "score", "answered", "confidence", "index")),
    f"{feedback.ATTR}slice.source",
    "gen_ai.evaluation.score.value",
    "gen_ai.evaluation.score.label",
    "gen_ai.response.id",
    "error.type",
)
_told = {
    names.ATTR_NAMESPACE: "a",
    names.ATTR_DEPLOYMENT: "b",
    names.ATTR_REVISION: "r",
    f"{feedback.ATTR}label": "yes",
    f"{feedback.ATTR}answered": "no",
}
_traces = st.sampled_from((*(bytes([number]) * 16 for number in range(1, 8)), b"", b"\x03" * 15))
_events = st.sampled_from((*([feedback.EVENT] * 4), feedback.EVALUATION, "", "exception"))


@st.composite
def logs_as_json(draw: st.DrawFn) -> bytes:
    """JSON bodies of logs that say something of answers, mostly, with odd fields."""
    records = []
    for _ in range(draw(st.integers(0, 3))):
        attributes = [{"key": key, "value": {"stringValue": value}} for key, value in _told.items()]
        attributes += draw(
            st.lists(st.builds(lambda k, v: {"key": k, "value": v}, st.sampled_from(_FEEDBACK), _value), max_size=3)
        )
        record = {"eventName": draw(_events), "traceId": draw(_traces).hex(), "attributes": attributes}
        records.append(record | draw(st.dictionaries(st.sampled_from(sorted(record)), odd_json, max_size=1)))
    return json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}).encode()


@st.composite
def logs_as_protobuf(draw: st.DrawFn) -> bytes:
    """The same in protobuf, some bytes of it changed."""
    message = logs_service_pb2.ExportLogsServiceRequest()
    scope = message.resource_logs.add().scope_logs.add()
    for _ in range(draw(st.integers(0, 3))):
        record = scope.log_records.add(trace_id=draw(_traces), event_name=draw(_events))
        for key, value in (_told | draw(st.dictionaries(st.sampled_from(_FEEDBACK), odd_text, max_size=2))).items():
            record.attributes.add(key=key).value.string_value = value
        if draw(st.booleans()):
            record.attributes.add(key=draw(st.sampled_from(_FEEDBACK))).value.double_value = draw(st.floats())
    body = bytearray(message.SerializeToString())
    for place in draw(st.lists(st.integers(0, max(0, len(body) - 1)), max_size=2)) if body else ():
        body[place] = draw(st.integers(0, 255))
    return bytes(body)


@st.composite
def packed(draw: st.DrawFn) -> tuple[str, bytes]:
    """A content encoding and a body: gzip of OTLP, of much of little, cut short, twice over, and what only claims to be it."""
    encoding = draw(st.sampled_from(("gzip", "gzip", "gzip", "", "deflate", "br")))
    body = draw(st.one_of(as_json(), st.builds(lambda n: b"\0" * n, st.sampled_from((1 << 10, 1 << 20)))))
    for _ in range(draw(st.integers(0, 2))):
        body = gzip.compress(body, 1)
    return encoding, body[: draw(st.integers(0, len(body)))] if draw(st.booleans()) else body
