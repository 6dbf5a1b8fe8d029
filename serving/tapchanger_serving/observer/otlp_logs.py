"""OTLP logs in protobuf: `opentelemetry.proto.collector.logs.v1`, decoded as far as feedback needs it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf import message
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

from tapchanger_serving.observer.events import LogRecord, Value
from tapchanger_serving.observer.spans import PayloadError

_SCALARS = ("string_value", "int_value", "double_value", "bool_value")


def decode(payload: bytes) -> Iterator[LogRecord]:
    """The records of an `ExportLogsServiceRequest`. Raises PayloadError for bytes that are no such message."""
    try:
        export = logs_service_pb2.ExportLogsServiceRequest.FromString(payload)
    except message.DecodeError:
        raise PayloadError(
            f"{len(payload)} bytes that are not a protobuf ExportLogsServiceRequest; send one to this address"
        ) from None
    for resource_logs in export.resource_logs:
        resource = _attributes(resource_logs.resource.attributes)
        for scope_logs in resource_logs.scope_logs:
            for record in scope_logs.log_records:
                if record.trace_id and len(record.trace_id) != 16:
                    raise PayloadError(f"trace_id: found {len(record.trace_id)} bytes, expected 16")
                yield LogRecord(record.event_name, record.trace_id, {**resource, **_attributes(record.attributes)})


def _attributes(found: Any) -> dict[str, Value]:
    values = {}
    for attribute in found:
        kind = attribute.value.WhichOneof("value")
        if kind in _SCALARS:
            values[attribute.key] = getattr(attribute.value, kind)
    return values


def encode_answer(rejected: int, why: str) -> bytes:
    """An `ExportLogsServiceResponse`; with `rejected` or `why` it says that the success was partial."""
    answer = logs_service_pb2.ExportLogsServiceResponse()
    if rejected or why:
        answer.partial_success.rejected_log_records = rejected
        answer.partial_success.error_message = why
    return bytes(answer.SerializeToString())
