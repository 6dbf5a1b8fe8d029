"""Payloads wait in a bounded line; what doesn't fit is turned away with the time to come again, and nothing is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from aiohttp import ClientSession

from tapchanger_serving.observer import otlp_grpc, otlp_http, wire
from tapchanger_serving.observer.gate import Gate
from tapchanger_serving.observer.ingest import Ingest
from tapchanger_serving.observer.intake import Intake, TurnedAwayError
from tapchanger_serving.observer.main import Observer
from tapchanger_serving.observer.otlp_grpc import DETAILS
from tapchanger_serving.observer.settings import Settings
from tapchanger_serving.observer.trust import EVERYTHING
from tapchanger_serving.observer.windows import Windows
from tests.bench.payloads import router_payloads
from tests.support.patience import PATIENCE

WAITING = 3
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
PROTOBUF = {"Content-Type": "application/x-protobuf"}


def payload(spans: int = 2) -> bytes:
    return next(router_payloads([("moderation", "r1", time.time(), 0.01)] * spans))


def counted(observer: Observer) -> int:
    found = observer.windows.window("default", "moderation", 0, time.time() + 60)
    return sum(one.requests for one in found.values())


@pytest.fixture
async def observer() -> AsyncIterator[Observer]:
    ports = {"grpc_port": 0, "http_port": 0, "api_port": 0}
    running = Observer(Settings(auth="open", host="127.0.0.1", max_waiting=WAITING, **ports))
    await running.start()
    yield running
    await running.stop()


async def filled(observer: Observer) -> None:
    async with asyncio.timeout(PATIENCE):
        while observer.intake.waiting < WAITING:
            await asyncio.sleep(0.01)


async def test_over_http_what_does_not_fit_is_told_when_to_come_again(observer: Observer) -> None:
    url = f"http://127.0.0.1:{observer.ports['http']}/v1/traces"
    async with ClientSession() as http:

        async def post() -> tuple[int, str | None, bytes]:
            async with http.post(url, data=payload(), headers=PROTOBUF) as answer:
                return answer.status, answer.headers.get("Retry-After"), await answer.read()

        async with observer.intake._turn:  # as if one payload took long to count
            waiting = [asyncio.create_task(post()) for _ in range(WAITING)]
            await filled(observer)
            status, again, body = await post()
            assert (status, again) == (429, "1")
            assert b"3 payloads of" in body
        assert {status for status, _, _ in await asyncio.gather(*waiting)} == {200}
        assert counted(observer) == 2 * WAITING
        assert (await post())[0] == 200
    assert observer.ingest.account.payloads_refused == {("http_protobuf", "overloaded"): 1}
    assert (observer.intake.waiting, observer.intake.waiting_bytes) == (0, 0)


async def test_over_grpc_what_does_not_fit_is_told_when_to_come_again(observer: Observer) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{observer.ports['grpc']}") as channel:
        method: Any = channel.unary_unary(EXPORT)
        async with observer.intake._turn:
            waiting = [asyncio.create_task(_call(method)) for _ in range(WAITING)]
            await filled(observer)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await _call(method)
        await asyncio.gather(*waiting)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    details = dict(refused.value.trailing_metadata() or ())[DETAILS]
    assert isinstance(details, bytes)
    status = wire._CLASSES["Status"].FromString(details)
    assert (status.code, status.details[0].type_url) == (14, "type.googleapis.com/google.rpc.RetryInfo")
    assert wire._CLASSES["RetryInfo"].FromString(status.details[0].value).retry_delay.seconds == 1
    assert counted(observer) == 2 * WAITING
    assert observer.ingest.account.payloads_refused == {("grpc", "overloaded"): 1}


async def _call(method: Any) -> bytes:
    return bytes(await method(payload()))


async def test_bytes_are_bounded_as_well_as_payloads() -> None:
    intake = Intake(Ingest(Windows(), time.time), Gate(None, time.time), max_waiting=10, max_waiting_bytes=100)
    with intake.place(EVERYTHING, 60) as place:
        with pytest.raises(TurnedAwayError, match="1 payloads of 60 bytes wait"), intake.place(EVERYTHING, 41):
            pytest.fail("it does not fit")
        assert (intake.waiting, intake.waiting_bytes) == (1, 60)
        intake.hold(place, 100)
        with intake.place(EVERYTHING) as other, pytest.raises(TurnedAwayError):
            intake.hold(other, 1)
    assert (intake.waiting, intake.waiting_bytes) == (0, 0)


async def test_a_payload_that_cannot_be_read_gives_its_place_back_and_is_logged_once(
    observer: Observer, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"http://127.0.0.1:{observer.ports['http']}/v1/traces"
    async with ClientSession() as http, http.post(url, data=b"\xff", headers=PROTOBUF) as answer:
        assert answer.status == 400
    assert (observer.intake.waiting, observer.intake.waiting_bytes) == (0, 0)
    for _ in range(2):
        await observer._tidy()
    told = [record for record in caplog.records if record.getMessage().startswith("payloads are refused")]
    assert [record.__dict__["fields"]["reason"] for record in told] == ["malformed"]


async def test_a_sender_that_stops_in_the_middle_gives_its_place_back(
    observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (otlp_http, otlp_grpc):
        monkeypatch.setattr(module, "READ_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", observer.ports["http"])
    head = "POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 100\r\n\r\n"
    writer.write(head.encode() + b"only this")
    assert (await reader.readline()).split()[1] == b"408"
    writer.close()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{observer.ports['grpc']}") as channel:
        call: Any = channel.stream_unary(EXPORT)()
        assert await call.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert (observer.intake.waiting, observer.intake.waiting_bytes) == (0, 0)
    assert observer.ingest.account.payloads_refused == {("http_protobuf", "too_slow"): 1, ("grpc", "too_slow"): 1}
