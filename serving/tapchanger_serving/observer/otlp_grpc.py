"""OTLP over gRPC: `opentelemetry.proto.collector.trace.v1.TraceService/Export`, and the `LogsService/Export` of logs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import grpc
import grpc.aio

from tapchanger_serving.observer import otlp_logs, wire
from tapchanger_serving.observer.events import Events
from tapchanger_serving.observer.ingest import Result
from tapchanger_serving.observer.intake import (
    READ_SECONDS,
    RETRY_SECONDS,
    TOO_SLOW,
    UNAUTHENTICATED,
    Intake,
    Place,
    TurnedAwayError,
)
from tapchanger_serving.observer.spans import PayloadError

SERVICE: Final = "opentelemetry.proto.collector.trace.v1.TraceService"
LOGS_SERVICE: Final = "opentelemetry.proto.collector.logs.v1.LogsService"
TRANSPORT: Final = "grpc"
_STREAMS: Final = 256
"""Calls at a time of one connection; its client holds back what is more."""
DETAILS: Final = "grpc-status-details-bin"

Export = Callable[[AsyncIterator[bytes], "grpc.aio.ServicerContext[bytes, bytes]"], Awaitable[bytes]]


Count = Callable[[Place, bytes, str | None], Awaitable[Callable[[], Awaitable[Result]]]]


@dataclass(frozen=True)
class Signal:
    """What is exported: the message's name, how a payload that has its place is counted, and the answer to what it came to."""

    message: str
    count: Count
    answer: Callable[[int, str], bytes]


def spans(intake: Intake) -> Signal:
    """Spans are counted at once."""

    async def count(place: Place, payload: bytes, _: str | None) -> Callable[[], Awaitable[Result]]:
        result = await intake.count(place, TRANSPORT, partial(wire.decode, payload))

        async def finish() -> Result:
            return result

        return finish

    return Signal("ExportTraceServiceRequest", count, wire.encode_answer)


def logs(events: Events) -> Signal:
    """Of logs only feedback is taken."""

    def count(place: Place, payload: bytes, authorization: str | None) -> Awaitable[Callable[[], Awaitable[Result]]]:
        return events.count(place, TRANSPORT, partial(otlp_logs.decode, payload), authorization)

    return Signal("ExportLogsServiceRequest", count, otlp_logs.encode_answer)


def exporter(intake: Intake, signal: Signal | None = None) -> Export:
    """The handler of Export, from and to bytes; of spans, unless a signal is given.

    It takes its one message as a stream does, so that whom it turns away needn't have been read.
    """

    taken = signal or spans(intake)

    async def export(messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            authorization = _authorization(context)
            grant = await intake.admit(authorization)
            with intake.place(grant) as place:
                async with asyncio.timeout(READ_SECONDS):
                    payload = await anext(aiter(messages), None)
                if payload is None:
                    raise PayloadError(f"no message; send an {taken.message}")
                intake.hold(place, len(payload))
                finish = await taken.count(place, payload, authorization)
            result = await finish()
            return taken.answer(result.refused, result.why)
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


def server(intake: Intake, max_payload_bytes: int, events: Events | None = None) -> grpc.aio.Server:
    """A gRPC server that is neither bound nor started. gRPC decompresses and enforces the size limit itself."""
    made = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", max_payload_bytes),
            ("grpc.max_concurrent_streams", _STREAMS),
            ("grpc.so_reuseport", 0),
        ]
    )
    services = {SERVICE: spans(intake), **({LOGS_SERVICE: logs(events)} if events else {})}
    for name, signal in services.items():
        method: Any = grpc.stream_unary_rpc_method_handler(exporter(intake, signal))
        made.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Export": method}),))
    return made
