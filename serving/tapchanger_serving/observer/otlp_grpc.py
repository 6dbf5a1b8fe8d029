"""OTLP over gRPC: `opentelemetry.proto.collector.trace.v1.TraceService/Export`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio

from tapchanger_serving.observer import wire
from tapchanger_serving.observer.ingest import Ingest
from tapchanger_serving.observer.spans import PayloadError

SERVICE: Final = "opentelemetry.proto.collector.trace.v1.TraceService"
TRANSPORT: Final = "grpc"
_CONCURRENT: Final = 1024
"""Calls at a time; more are answered RESOURCE_EXHAUSTED, which OTLP senders retry later."""

Export = Callable[[bytes, "grpc.aio.ServicerContext[bytes, bytes]"], Awaitable[bytes]]


def exporter(ingest: Ingest) -> Export:
    """The handler of Export, from and to bytes."""

    async def export(payload: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            result = ingest.take(list(wire.decode(payload)), TRANSPORT)
        except PayloadError as bad:
            ingest.account.payloads_refused[TRANSPORT, "malformed"] += 1
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(bad))
        return wire.encode_answer(result.refused, result.why)

    return export


def server(ingest: Ingest, max_payload_bytes: int) -> grpc.aio.Server:
    """A gRPC server that is neither bound nor started. gRPC decompresses and enforces the size limit itself."""
    made = grpc.aio.server(
        maximum_concurrent_rpcs=_CONCURRENT,
        options=[("grpc.max_receive_message_length", max_payload_bytes), ("grpc.so_reuseport", 0)],
    )
    method: Any = grpc.unary_unary_rpc_method_handler(exporter(ingest))
    made.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Export": method}),))
    return made
