"""OTLP over gRPC: `opentelemetry.proto.collector.trace.v1.TraceService/Export`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Final

import grpc
import grpc.aio

from tapchanger_serving.observer import wire
from tapchanger_serving.observer.intake import (
    READ_SECONDS,
    RETRY_SECONDS,
    TOO_SLOW,
    UNAUTHENTICATED,
    Intake,
    TurnedAwayError,
)
from tapchanger_serving.observer.spans import PayloadError

SERVICE: Final = "opentelemetry.proto.collector.trace.v1.TraceService"
TRANSPORT: Final = "grpc"
_STREAMS: Final = 256
"""Calls at a time of one connection; its client holds back what is more."""
DETAILS: Final = "grpc-status-details-bin"

Export = Callable[[AsyncIterator[bytes], "grpc.aio.ServicerContext[bytes, bytes]"], Awaitable[bytes]]


def exporter(intake: Intake) -> Export:
    """The handler of Export, from and to bytes.

    It takes its one message as a stream does, so that whom it turns away needn't have been read.
    """

    async def export(messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            grant = await intake.admit(_authorization(context))
            with intake.place(grant) as place:
                async with asyncio.timeout(READ_SECONDS):
                    payload = await anext(aiter(messages), None)
                if payload is None:
                    raise PayloadError("no message; send an ExportTraceServiceRequest")
                intake.hold(place, len(payload))
                result = await intake.count(place, TRANSPORT, partial(wire.decode, payload))
                return wire.encode_answer(result.refused, result.why)
        except TurnedAwayError as refusal:
            intake.refuse(TRANSPORT, refusal.reason)
            await _abort(context, refusal)
        except PayloadError as bad:
            intake.refuse(TRANSPORT, "malformed")
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(bad))
        except TimeoutError:
            intake.refuse(TRANSPORT, TOO_SLOW)
            why = f"the payload took more than {READ_SECONDS:g} s to come"
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, why)
        raise AssertionError("abort returns never")

    return export


async def _abort(context: grpc.aio.ServicerContext[bytes, bytes], refusal: TurnedAwayError) -> None:
    if refusal.reason == UNAUTHENTICATED:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(refusal))
    code = grpc.StatusCode.UNAVAILABLE
    details = wire.encode_retry(code.value[0], str(refusal), RETRY_SECONDS)
    await context.abort(code, str(refusal), trailing_metadata=((DETAILS, details),))


def _authorization(context: grpc.aio.ServicerContext[bytes, bytes]) -> str | None:
    found = next((value for name, value in context.invocation_metadata() or () if name == "authorization"), None)
    return found if isinstance(found, str) else None


def server(intake: Intake, max_payload_bytes: int) -> grpc.aio.Server:
    """A gRPC server that is neither bound nor started. gRPC decompresses and enforces the size limit itself."""
    made = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", max_payload_bytes),
            ("grpc.max_concurrent_streams", _STREAMS),
            ("grpc.so_reuseport", 0),
        ]
    )
    method: Any = grpc.stream_unary_rpc_method_handler(exporter(intake))
    made.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Export": method}),))
    return made
