"""The three servers, asked over real connections."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from aiohttp import ClientSession
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tapchanger_serving.observer.main import Observer
from tapchanger_serving.observer.settings import Settings

LIMIT = 64 << 10


def payload(*, revision: str = "r1", spans: int = 1) -> Any:
    message = trace_service_pb2.ExportTraceServiceRequest()
    resource_spans = message.resource_spans.add()
    for key, value in (
        ("tapchanger.component", "router"),
        ("tapchanger.namespace", "default"),
        ("tapchanger.deployment", "moderation"),
        ("tapchanger.revision", revision),
        ("http.status_code", "200"),
    ):
        resource_spans.resource.attributes.add(key=key).value.string_value = value
    scope = resource_spans.scope_spans.add()
    for number in range(spans):
        end = time.time_ns()
        ids = {"trace_id": end.to_bytes(16, "big"), "span_id": number.to_bytes(8, "big")}
        scope.spans.add(kind=2, start_time_unix_nano=end - 5_000_000, end_time_unix_nano=end, **ids)
    return message


@pytest.fixture
async def observer(tmp_path: Path) -> AsyncIterator[Observer]:
    options = Settings(
        auth="open", host="127.0.0.1", grpc_port=0, http_port=0, api_port=0, max_payload_bytes=LIMIT,
        state=tmp_path / "windows.json",
    )  # fmt: skip
    running = Observer(options)
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


async def post(observer: Observer, http: ClientSession, body: bytes, **headers: str) -> tuple[int, str, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    address = f"http://127.0.0.1:{observer.ports['http']}/v1/traces"
    async with http.post(address, data=body, headers=named) as answer:
        return answer.status, answer.content_type, await answer.read()


async def windows(observer: Observer, http: ClientSession) -> dict[str, int]:
    query = {"namespace": "default", "deployment": "moderation"}
    async with http.get(f"http://127.0.0.1:{observer.ports['api']}/v1/windows", params=query) as answer:
        assert answer.status == 200
        return {one["revision"]: one["requests"] for one in (await answer.json())["revisions"]}


async def test_spans_arrive_by_grpc_protobuf_and_json_plain_or_gzip(observer: Observer, http: ClientSession) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{observer.ports['grpc']}") as channel:
        stub = trace_service_pb2_grpc.TraceServiceStub(channel)
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            answer = await stub.Export(payload(revision="grpc"), compression=compression)
            assert not answer.HasField("partial_success")
    protobuf = payload(revision="protobuf").SerializeToString()
    text = json.dumps(
        {
            "resourceSpans": [
                {
                    "resource": {
                        "attributes": [
                            {"key": f"tapchanger.{key}", "value": {"stringValue": value}}
                            for key, value in (
                                ("component", "router"),
                                ("namespace", "default"),
                                ("deployment", "moderation"),
                                ("revision", "json"),
                            )
                        ]
                    },
                    "scopeSpans": [
                        {
                            "spans": [
                                {
                                    "kind": 2,
                                    "startTimeUnixNano": str(time.time_ns()),
                                    "endTimeUnixNano": str(time.time_ns()),
                                    "attributes": [{"key": "http.status_code", "value": {"intValue": "200"}}],
                                }
                            ]
                        }
                    ],
                }
            ]
        }
    ).encode()
    plain = await post(observer, http, protobuf, Content_Type="application/x-protobuf")
    assert plain == (200, "application/x-protobuf", b"")
    zipped = {"Content_Encoding": "gzip"}
    assert (await post(observer, http, gzip.compress(text, mtime=0), Content_Type="application/json", **zipped))[
        0
    ] == 200
    again = await post(observer, http, text, Content_Type="application/json; charset=utf-8")
    assert again == (200, "application/json", b"{}")
    assert await windows(observer, http) == {"grpc": 2, "protobuf": 1, "json": 2}


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (b"\xff\xff", {"Content_Type": "application/json"}, 400, "not JSON"),
        (
            b"{}",
            {"Content_Type": "text/plain"},
            415,
            "Content-Type: found 'text/plain'; send application/x-protobuf or",
        ),
        (b"{}", {"Content_Type": "application/json", "Content_Encoding": "br"}, 415, "found 'br'; send gzip or none"),
        (b"{}", {"Content_Type": "application/json", "Content_Encoding": "gzip"}, 400, "not gzip"),
        (
            gzip.compress(b"{}" * 99, mtime=0)[:-9],
            {"Content_Type": "application/json", "Content_Encoding": "gzip"},
            400,
            "early",
        ),
        (b"{" * (LIMIT + 1), {"Content_Type": "application/json"}, 413, f"larger than {LIMIT} bytes"),
        (
            gzip.compress(b"0" * 50_000_000, mtime=0),
            {"Content_Type": "application/json", "Content_Encoding": "gzip"},
            413,
            f"larger than {LIMIT} bytes",
        ),
    ],
)
async def test_a_bad_payload_is_refused_in_plain_words(
    observer: Observer, http: ClientSession, body: bytes, headers: dict[str, str], status: int, message: str
) -> None:
    found, content_type, text = await post(observer, http, body, **headers)
    assert (found, content_type) == (status, "application/json")
    assert message in json.loads(text)["message"]
    assert sum(observer.ingest.account.payloads_refused.values()) == 1


async def test_protobuf_senders_are_refused_in_protobuf(observer: Observer, http: ClientSession) -> None:
    status, content_type, body = await post(observer, http, b"\xff", Content_Type="application/x-protobuf")
    assert (status, content_type) == (400, "application/x-protobuf")
    assert b"not a protobuf ExportTraceServiceRequest" in body


async def test_grpc_senders_are_refused_in_status(observer: Observer) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{observer.ports['grpc']}") as channel:
        export: Any = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        with pytest.raises(grpc.aio.AioRpcError) as bad:
            await export(b"\xff")
        assert bad.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.aio.AioRpcError) as large:
            await export(b"\0" * (LIMIT + 1))
        assert large.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_what_can_not_be_counted_is_a_partial_success(observer: Observer, http: ClientSession) -> None:
    message = payload()
    message.resource_spans[0].scope_spans[0].spans.add(kind=2, start_time_unix_nano=5, end_time_unix_nano=6)
    body = (await post(observer, http, message.SerializeToString(), Content_Type="application/x-protobuf"))[2]
    answer = trace_service_pb2.ExportTraceServiceResponse.FromString(body).partial_success
    assert answer.rejected_spans == 1
    assert "they count up to" in answer.error_message
    assert await windows(observer, http) == {"r1": 1}


async def test_health_readiness_metrics_and_bad_questions(observer: Observer, http: ClientSession) -> None:
    base = f"http://127.0.0.1:{observer.ports['api']}"
    for path, status, text in (
        ("/healthz", 200, "ok"),
        ("/readyz", 200, "ready"),
        ("/metrics", 200, "process_resident_memory_bytes"),
        ("/v1/windows?namespace=a", 400, "deployment: found ''"),
        ("/v1/window", 404, "Not Found"),
    ):
        async with http.get(base + path) as answer:
            assert (path, answer.status) == (path, status)
            assert text in await answer.text()


async def test_a_restart_keeps_the_windows(observer: Observer, http: ClientSession) -> None:
    await post(observer, http, payload(spans=7).SerializeToString(), Content_Type="application/x-protobuf")
    await observer.stop()
    again = Observer(observer.options)
    await again.start()
    try:
        assert await windows(again, http) == {"r1": 7}
    finally:
        await again.stop()


async def test_a_port_that_is_taken_is_an_error(observer: Observer) -> None:
    for name in ("grpc_port", "http_port", "api_port"):
        taken = observer.options.model_copy(update={name: observer.ports[name.removesuffix("_port")], "state": None})
        other = Observer(taken)
        try:
            with pytest.raises(OSError, match=r"[Aa]ddress already in use|Failed to bind"):
                await other.start()
        finally:
            await other.stop()


async def test_a_state_that_cannot_be_written_does_not_stop_the_counting(
    observer: Observer, http: ClientSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deaf = Observer(observer.options.model_copy(update={"state": tmp_path / "no" / "such" / "folder.json"}))
    await deaf.start()
    await post(deaf, http, payload().SerializeToString(), Content_Type="application/x-protobuf")
    assert await windows(deaf, http) == {"r1": 1}
    await deaf.stop()
    assert "the windows could not be saved" in caplog.text
