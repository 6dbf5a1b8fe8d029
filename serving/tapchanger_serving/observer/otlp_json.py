"""OTLP/JSON, as the specification has it and as senders really write it.

By the specification ids are hexadecimal, names are lowerCamelCase and 64-bit integers are strings. Accepted as well:
ids in base64 (what protobuf's own JSON mapping makes of them), numbers as numbers, snake_case names, enum names
for `kind`, and absent lists. Triton's exporter (opentelemetry-cpp 1.13) keeps to the specification.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any, Final

from tapchanger_serving.observer.events import LogRecord, Value
from tapchanger_serving.observer.spans import WANTED, PayloadError, Span

_KINDS: Final = {"SPAN_KIND_INTERNAL": 1, "SPAN_KIND_SERVER": 2, "SPAN_KIND_CLIENT": 3}
_MOST_NANOSECONDS: Final = 2**64


def decode(payload: bytes) -> Iterator[Span]:
    """The spans of an `ExportTraceServiceRequest` in JSON.

    Raises PayloadError where the text is no JSON or a field isn't what OTLP says, maybe after some spans.
    """
    export = _export(payload, "ExportTraceServiceRequest", "resourceSpans", "resource_spans")
    for resource_spans in _objects(export, "resourceSpans", "resource_spans"):
        resource = _attributes(_object(resource_spans, "resource"))
        for scope_spans in _objects(resource_spans, "scopeSpans", "scope_spans"):
            for span in _objects(scope_spans, "spans", "spans"):
                yield _span(span, resource)


def decode_logs(payload: bytes) -> Iterator[LogRecord]:
    """The records of an `ExportLogsServiceRequest` in JSON. Raises PayloadError as :func:`decode` does."""
    export = _export(payload, "ExportLogsServiceRequest", "resourceLogs", "resource_logs")
    for resource_logs in _objects(export, "resourceLogs", "resource_logs"):
        resource = _scalars(_object(resource_logs, "resource"))
        for scope_logs in _objects(resource_logs, "scopeLogs", "scope_logs"):
            for record in _objects(scope_logs, "logRecords", "log_records"):
                event = record.get("eventName") or _text(record, "event_name")
                trace_id = _id(record, "traceId", "trace_id", 16)
                yield LogRecord(str(event), trace_id, {**resource, **_scalars(record)})


def _export(payload: bytes, kind: str, name: str, snake: str) -> dict[str, Any]:
    try:
        export = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"not JSON ({error}); send an {kind} as JSON") from None
    if not isinstance(export, dict) or not (name in export or snake in export or not export):
        raise PayloadError(f'found no {name}; send an {kind}: {{"{name}": [...]}}')
    return export


def _scalars(holder: dict[str, Any]) -> dict[str, Value]:
    """All attributes of one value each; 64-bit integers may be strings."""
    found: dict[str, Value] = {}
    for attribute in _objects(holder, "attributes", "attributes"):
        key, value = attribute.get("key"), attribute.get("value")
        if isinstance(key, str) and isinstance(value, dict) and len(value) == 1:
            ((kind, content),) = value.items()
            if isinstance(content, str | int | float):
                digits = str(content).removeprefix("-")
                whole = kind in ("intValue", "int_value") and digits.isascii() and digits.isdigit() and len(digits) < 20
                found[key] = int(content) if whole else content
    return found


def _span(span: dict[str, Any], resource: dict[str, str]) -> Span:
    return Span(
        _id(span, "traceId", "trace_id", 16),
        _id(span, "spanId", "span_id", 8),
        _id(span, "parentSpanId", "parent_span_id", 8),
        _text(span, "name"),
        _kind(span.get("kind", 0)),
        _time(span, "startTimeUnixNano", "start_time_unix_nano"),
        _time(span, "endTimeUnixNano", "end_time_unix_nano"),
        {**resource, **_attributes(span)},
        tuple(
            [
                (_text(event, "name"), _time(event, "timeUnixNano", "time_unix_nano"))
                for event in _objects(span, "events", "events")
            ]
        ),
    )


def _attributes(holder: dict[str, Any]) -> dict[str, str]:
    found = {}
    for attribute in _objects(holder, "attributes", "attributes"):
        key = attribute.get("key")
        if isinstance(key, str) and key in WANTED:
            found[key] = _value(key, attribute.get("value"))
    return found


def _value(key: str, value: Any) -> str:
    if isinstance(value, dict) and len(value) == 1:
        content = next(iter(value.values()))
        if isinstance(content, str | int | float):
            return str(content)
    raise PayloadError(
        f'attribute {key}: found {json.dumps(value)[:64]}, expected one value, as in {{"stringValue": …}}'
    )


def _object(holder: dict[str, Any], name: str) -> dict[str, Any]:
    found = holder.get(name) or {}
    if not isinstance(found, dict):
        raise PayloadError(f"{name}: found {type(found).__name__}, expected an object")
    return found


def _objects(holder: dict[str, Any], name: str, snake: str) -> list[dict[str, Any]]:
    found = holder.get(name) or holder.get(snake) or []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise PayloadError(f"{name}: found {type(found).__name__}, expected a list of objects")
    return found


def _text(holder: dict[str, Any], name: str) -> str:
    found = holder.get(name, "")
    if not isinstance(found, str):
        raise PayloadError(f"{name}: found {type(found).__name__}, expected text")
    return found


def _kind(found: Any) -> int:
    if isinstance(found, str):
        return _KINDS.get(found, 0)
    if isinstance(found, int):
        return found
    raise PayloadError(f"kind: found {type(found).__name__}, expected a number")


def _time(holder: dict[str, Any], name: str, snake: str) -> int:
    found = holder.get(name, holder.get(snake, 0))
    if isinstance(found, str) and found.isascii() and found.isdigit() and len(found) <= 20:
        found = int(found)
    if not isinstance(found, int) or not 0 <= found < _MOST_NANOSECONDS:
        raise PayloadError(f"{name}: found {str(found)[:32]!r}, expected Unix nanoseconds")
    return found


def _id(holder: dict[str, Any], name: str, snake: str, size: int) -> bytes:
    found = holder.get(name) or holder.get(snake) or ""
    if isinstance(found, str):
        if not found:
            return b""
        try:
            decoded = bytes.fromhex(found) if len(found) == 2 * size else base64.b64decode(found, validate=True)
        except (ValueError, binascii.Error):
            decoded = b""
        if len(decoded) == size:
            return decoded
    raise PayloadError(f"{name}: found {str(found)[:48]!r}, expected {2 * size} hexadecimal digits")


def encode_answer(rejected: int, why: str) -> bytes:
    """An `ExportTraceServiceResponse` in JSON; with `rejected` or `why` it says that the success was partial."""
    if not rejected and not why:
        return b"{}"
    return json.dumps({"partialSuccess": {"rejectedSpans": str(rejected), "errorMessage": why}}).encode()


def encode_logs_answer(rejected: int, why: str) -> bytes:
    """An `ExportLogsServiceResponse` in JSON; with `rejected` or `why` it says that the success was partial."""
    if not rejected and not why:
        return b"{}"
    return json.dumps({"partialSuccess": {"rejectedLogRecords": str(rejected), "errorMessage": why}}).encode()


def encode_status(code: int, text: str) -> bytes:
    """A `google.rpc.Status` in JSON, the body of OTLP/HTTP errors."""
    return json.dumps({"code": code, "message": text}).encode()
