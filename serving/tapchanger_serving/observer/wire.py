"""OTLP protobuf, decoded only as far as the observer reads it.

The messages below have the field numbers of `opentelemetry.proto.collector.trace.v1` and leave out what isn't read.
Attributes are declared as `bytes` instead of as messages, which is the same on the wire: upb then hands out each of
them as one object, and only wanted ones are decoded. With the full messages the attributes alone cost most of a core at
20,000 spans a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2

from tapchanger_serving.observer.spans import REQUEST_ID, WANTED, PayloadError, Span

_PACKAGE: Final = "tapchanger.observer.wire"
_TYPES: Final = {
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    "fixed64": descriptor_pb2.FieldDescriptorProto.TYPE_FIXED64,
    "int32": descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
}
_ONE: Final = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
_MANY: Final = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
_MESSAGES: Final = {
    "Export": [("resource_spans", 1, "ResourceSpans", _MANY)],
    "ResourceSpans": [("resource", 1, "Resource", _ONE), ("scope_spans", 2, "ScopeSpans", _MANY)],
    "Resource": [("attributes", 1, "bytes", _MANY)],
    "ScopeSpans": [("spans", 2, "Span", _MANY)],
    "Span": [
        ("trace_id", 1, "bytes", _ONE),
        ("span_id", 2, "bytes", _ONE),
        ("parent_span_id", 4, "bytes", _ONE),
        ("name", 5, "bytes", _ONE),
        ("kind", 6, "int32", _ONE),
        ("start_time_unix_nano", 7, "fixed64", _ONE),
        ("end_time_unix_nano", 8, "fixed64", _ONE),
        ("attributes", 9, "bytes", _MANY),
        ("events", 11, "Event", _MANY),
    ],
    "Event": [("time_unix_nano", 1, "fixed64", _ONE), ("name", 2, "bytes", _ONE)],
    "Status": [("code", 1, "int32", _ONE), ("message", 2, "string", _ONE), ("details", 3, "Any", _MANY)],
    "Any": [("type_url", 1, "string", _ONE), ("value", 2, "bytes", _ONE)],
    "RetryInfo": [("retry_delay", 1, "Duration", _ONE)],
    "Duration": [("seconds", 1, "int32", _ONE)],
}


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="tapchanger/observer/wire.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        declared = file.message_type.add(name=name)
        for field, number, kind, label in fields:
            entry = declared.field.add(name=field, number=number, label=label)
            if kind in _TYPES:
                entry.type = _TYPES[kind]
            else:
                entry.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
                entry.type_name = f".{_PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


_CLASSES: Final = _build()
_WANTED_KEYS: Final = {key.encode(): key for key in WANTED}


def decode(payload: bytes) -> Iterator[Span]:
    """The spans of an `ExportTraceServiceRequest`.

    Raises PayloadError for bytes that are no such message, maybe after some spans.
    """
    try:
        export = _CLASSES["Export"].FromString(payload)
    except message.DecodeError:
        raise PayloadError(
            f"{len(payload)} bytes that are not a protobuf ExportTraceServiceRequest; send one to this address"
        ) from None
    for resource_spans in export.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield _span(span, resource)


def _span(span: Any, resource: dict[str, str]) -> Span:
    return Span(
        span.trace_id,
        span.span_id,
        span.parent_span_id,
        span.name.decode(errors="replace"),
        span.kind,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        {**resource, **_attributes(span.attributes)},
        tuple([(event.name.decode(errors="replace"), event.time_unix_nano) for event in span.events]),
    )


def _attributes(encoded: Any) -> dict[str, str]:
    """Wanted attributes of a repeated KeyValue. Its key comes first on the wire (tag 0x0a, then one byte of length)."""
    found = {}
    for raw in encoded:
        key = _WANTED_KEYS.get(raw[2 : 2 + raw[1]]) if len(raw) > 1 and raw[0] == 0x0A else _slow_key(raw)
        if key is not None:
            found[key] = _once(raw) if key == REQUEST_ID else _value(raw)
    return found


def _slow_key(raw: bytes) -> str | None:
    key = _key_value(raw).key
    return key if key in WANTED else None


def _key_value(raw: bytes) -> Any:
    try:
        return common_pb2.KeyValue.FromString(raw)
    except message.DecodeError:
        raise PayloadError("an attribute that is not a KeyValue message") from None


_values: dict[bytes, str] = {}
_MOST_VALUES: Final = 8192


def _value(raw: bytes) -> str:
    """The value as text. Wanted attributes take few values (names, statuses), so decoding is remembered."""
    known = _values.get(raw)
    if known is not None:
        return known
    value = _key_value(raw).value
    kind = value.WhichOneof("value")
    text = str(getattr(value, kind)) if kind in ("string_value", "int_value", "double_value", "bool_value") else ""
    if len(_values) >= _MOST_VALUES:
        _values.clear()
    _values[raw] = text
    return text


def _once(raw: bytes) -> str:
    """A text that is never the same twice: read where it lies (tags 0x12 and 0x0a, short lengths), and not remembered."""
    start = 2 + raw[1]
    if (
        raw[start : start + 1] == b"\x12"
        and raw[start + 2 : start + 3] == b"\n"
        and len(raw) == start + 4 + raw[start + 3]
    ):
        return raw[start + 4 :].decode(errors="replace")
    return str(_key_value(raw).value.string_value)


def encode_answer(rejected: int, why: str) -> bytes:
    """An `ExportTraceServiceResponse`; with `rejected` or `why` it says that the success was partial."""
    answer = trace_service_pb2.ExportTraceServiceResponse()
    if rejected or why:
        answer.partial_success.rejected_spans = rejected
        answer.partial_success.error_message = why
    return bytes(answer.SerializeToString())


def encode_retry(code: int, text: str, seconds: int) -> bytes:
    """A `google.rpc.Status` with `google.rpc.RetryInfo`: come again in so many seconds."""
    retry = _CLASSES["RetryInfo"](retry_delay=_CLASSES["Duration"](seconds=seconds)).SerializeToString()
    detail = _CLASSES["Any"](type_url="type.googleapis.com/google.rpc.RetryInfo", value=retry)
    return bytes(_CLASSES["Status"](code=code, message=text, details=[detail]).SerializeToString())


def encode_status(code: int, text: str) -> bytes:
    """A `google.rpc.Status`, the body of OTLP/HTTP errors."""
    return bytes(_CLASSES["Status"](code=code, message=text).SerializeToString())
