"""OTLP over HTTP: POST /v1/traces, and /v1/logs, with protobuf or JSON, plain or gzip."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, Generic, NamedTuple, TypeVar

from aiohttp import web

from tapchanger_serving.observer import otlp_json, otlp_logs, wire
from tapchanger_serving.observer.events import Events, LogRecord
from tapchanger_serving.observer.ingest import Result
from tapchanger_serving.observer.intake import (
    OVERLOADED,
    READ_SECONDS,
    RETRY_SECONDS,
    TOO_SLOW,
    UNAUTHENTICATED,
    UNPROVEN,
    Intake,
    Place,
    TurnedAwayError,
)
from tapchanger_serving.observer.spans import PayloadError, Span

PATH: Final = "/v1/traces"
LOGS_PATH: Final = "/v1/logs"
_GZIP: Final = 16 + zlib.MAX_WBITS
_INVALID_ARGUMENT: Final = 3
_CODES: Final = {UNAUTHENTICATED: 16, UNPROVEN: 14, OVERLOADED: 14}
_STATUS: Final = {UNAUTHENTICATED: 401, UNPROVEN: 503, OVERLOADED: 429}


Item = TypeVar("Item")


class Encoding(NamedTuple, Generic[Item]):
    """One of the two encodings: how to read a request and how to write the answers."""

    transport: str
    media_type: str
    decode: Callable[[bytes], Iterator[Item]]
    answer: Callable[[int, str], bytes]
    status: Callable[[int, str], bytes]


PROTOBUF: Final = Encoding[Span](
    "http_protobuf", "application/x-protobuf", wire.decode, wire.encode_answer, wire.encode_status
)
JSON: Final = Encoding[Span](
    "http_json", "application/json", otlp_json.decode, otlp_json.encode_answer, otlp_json.encode_status
)
ENCODINGS: Final = {encoding.media_type: encoding for encoding in (PROTOBUF, JSON)}
LOG_ENCODINGS: Final = {
    encoding.media_type: encoding
    for encoding in (
        Encoding[LogRecord](
            PROTOBUF.transport, PROTOBUF.media_type, otlp_logs.decode, otlp_logs.encode_answer, wire.encode_status
        ),
        Encoding[LogRecord](
            JSON.transport,
            JSON.media_type,
            otlp_json.decode_logs,
            otlp_json.encode_logs_answer,
            otlp_json.encode_status,
        ),
    )
}
Finish = Callable[[], Awaitable[Result]]
Count = Callable[[Place, str, Callable[[], Iterator[Any]], str | None], Awaitable[Finish]]


class UnacceptableError(Exception):
    """A payload that is refused as a whole: HTTP status, reason for the metric, message for the sender."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


def unpack(body: bytes, content_encoding: str, limit: int) -> bytes:
    """The payload of a request body; at most `limit` bytes are ever decompressed.

    Raises UnacceptableError when the encoding is unknown, the data are broken or the payload is larger than `limit`.
    """
    if content_encoding in ("", "identity"):
        return body
    if content_encoding != "gzip":
        raise UnacceptableError(
            415, "encoding", f"Content-Encoding: found {content_encoding[:32]!r}; send gzip or none"
        )
    inflate = zlib.decompressobj(wbits=_GZIP)
    try:
        payload = inflate.decompress(body, limit + 1)
    except zlib.error as error:
        raise UnacceptableError(400, "encoding", f"the body is not gzip ({error})") from None
    if len(payload) > limit:
        raise too_large(limit)
    if not inflate.eof:
        raise UnacceptableError(400, "encoding", "the gzip body ends too early")
    return payload


def too_large(limit: int) -> UnacceptableError:
    """The refusal of a payload over the limit."""
    return UnacceptableError(413, "too_large", f"the payload is larger than {limit} bytes; send smaller batches")


async def _read(request: web.Request, limit: int) -> bytes:
    try:
        async with asyncio.timeout(READ_SECONDS):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise too_large(limit) from None
    except TimeoutError:
        raise UnacceptableError(408, TOO_SLOW, f"the payload took more than {READ_SECONDS:g} s to come") from None


def application(intake: Intake, max_payload_bytes: int, events: Events | None = None) -> web.Application:
    """The application; with `events` it takes feedback in logs too.

    Run it with `auto_decompress=False`: bodies are decompressed here, within the limit.
    """

    async def spans(place: Place, transport: str, decode: Callable[[], Iterator[Any]], _: str | None) -> Finish:
        result = await intake.count(place, transport, decode)

        async def finish() -> Result:
            return result

        return finish

    app = web.Application(client_max_size=max_payload_bytes)
    app.router.add_post(PATH, _exporter(intake, max_payload_bytes, ENCODINGS, spans))
    if events is not None:
        app.router.add_post(LOGS_PATH, _exporter(intake, max_payload_bytes, LOG_ENCODINGS, events.count))
    return app


def _exporter(
    intake: Intake, max_payload_bytes: int, encodings: Mapping[str, Encoding[Any]], count: Count
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """The handler of one signal."""

    async def taken(request: web.Request, encoding: Encoding[Any] | None) -> web.Response:
        authorization = request.headers.get("Authorization")
        grant = await intake.admit(authorization)
        if encoding is None:
            known = " or ".join(encodings)
            found = request.content_type[:64]
            raise UnacceptableError(415, "media_type", f"Content-Type: found {found!r}; send {known}")
        announced = request.content_length or 0
        if announced > max_payload_bytes:
            raise too_large(max_payload_bytes)
        with intake.place(grant, announced) as place:
            body = await _read(request, max_payload_bytes)
            intake.hold(place, len(body))
            content_encoding = request.headers.get("Content-Encoding", "").strip().lower()

            def decode() -> Iterator[Any]:
                return encoding.decode(unpack(body, content_encoding, max_payload_bytes))

            finish = await count(place, encoding.transport, decode, authorization)
        result = await finish()
        return web.Response(body=encoding.answer(result.refused, result.why), content_type=encoding.media_type)

    async def export(request: web.Request) -> web.Response:
        encoding = encodings.get(request.content_type)
        answer = encoding or JSON
        headers = {}
        try:
            return await taken(request, encoding)
        except UnacceptableError as refusal:
            status, reason, message = refusal.status, refusal.reason, str(refusal)
        except PayloadError as bad:
            status, reason, message = 400, "malformed", str(bad)
        except TurnedAwayError as refusal:
            status, reason, message = _STATUS[refusal.reason], refusal.reason, str(refusal)
            headers = {"Retry-After": str(RETRY_SECONDS)} if refusal.again else {"WWW-Authenticate": "Bearer"}
        intake.refuse(encoding.transport if encoding else "http", reason)
        text = answer.status(_CODES.get(reason, _INVALID_ARGUMENT), message)
        return web.Response(status=status, body=text, content_type=answer.media_type, headers=headers)

    return export
