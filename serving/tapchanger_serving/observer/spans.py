"""A span as the rest of the observer sees it, whatever it was encoded in."""

from __future__ import annotations

from typing import Final, NamedTuple

from tapchanger_serving.contract import names

HTTP_STATUS: Final = "http.status_code"
GRPC_STATUS: Final = "grpc.status_code"
GRPC_PATH: Final = "grpc.path"
REQUEST_ID: Final = "guid:x-request-id"
RESPONSE_FLAGS: Final = "response_flags"
TRITON_MODEL: Final = "triton.model_name"
TRITON_PARENT: Final = "triton.trace_parent_id"

WANTED: Final = frozenset(
    {
        names.ATTR_NAMESPACE,
        names.ATTR_DEPLOYMENT,
        names.ATTR_REVISION,
        names.ATTR_COMPONENT,
        names.ATTR_TOKENS,
        names.ATTR_BATCH,
        names.ATTR_PRE,
        names.ATTR_COMPUTE,
        names.ATTR_POST,
        names.ATTR_CONFIDENCE,
        names.ATTR_LABEL,
        names.ATTR_ANSWERED,
        names.ATTR_DRIFT,
        names.ATTR_DRIFT_REFERENCE,
        names.ATTR_MIRROR,
        names.ATTR_ANSWERS,
        names.ATTR_NODE,
        HTTP_STATUS,
        GRPC_STATUS,
        GRPC_PATH,
        REQUEST_ID,
        RESPONSE_FLAGS,
        TRITON_MODEL,
        TRITON_PARENT,
    }
)
"""Attributes that are read. All others (addresses, paths, user agents) are skipped without being decoded."""

KIND_CLIENT: Final = 3


class Span(NamedTuple):
    """One finished span. Times are Unix nanoseconds; attributes are the :data:`WANTED` ones, as text, the resource's
    overlaid with the span's own; events are (name, time) pairs.
    """

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    name: str
    kind: int
    start: int
    end: int
    attributes: dict[str, str]
    events: tuple[tuple[str, int], ...]


class PayloadError(ValueError):
    """A payload that is not an OTLP export of spans. The message says what was found and what was expected."""
