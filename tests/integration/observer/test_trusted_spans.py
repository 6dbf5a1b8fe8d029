"""Whose spans count: a router's as the operator configures it, a server's, a stranger's, and another namespace's."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import httpx
import pytest
from aiohttp import web

from tapchanger_operator.observe import windows
from tapchanger_operator.snapshot import Silence
from tapchanger_serving.backends.tracing import ENDPOINT, Traced, Tracer
from tapchanger_serving.contract import names as contract
from tapchanger_serving.contract.windows import Windows
from tapchanger_serving.engines.phases import Phases
from tapchanger_serving.observer.main import Observer
from tapchanger_serving.observer.settings import Settings
from tests.integration.operator import test_envoy_config as real
from tests.support.patience import PATIENCE
from tests.support.samples import OWNER
from tests.support.tokens import Issuer

binary = real.binary
idle = real.idle
start = real.start
ISSUER = Issuer()
TOKEN = contract.OBSERVER_TOKEN_FILE
SYSTEM = "tapchanger-system"


@asynccontextmanager
async def key_server(issuer: Issuer) -> AsyncIterator[str]:
    async def keys(_: web.Request) -> web.Response:
        return web.Response(text=issuer.key_set())

    app = web.Application()
    app.router.add_get("/openid/v1/jwks", keys)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/openid/v1/jwks"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Observer]:
    async with key_server(ISSUER) as url:
        ports = {"grpc_port": 0, "http_port": 0, "api_port": 0, **settings}
        observer = Observer(Settings(host="127.0.0.1", keys_url=url, namespace=SYSTEM, **ports))
        await observer.start()
        try:
            yield observer
        finally:
            await observer.stop()


@pytest.fixture
async def observer() -> AsyncIterator[Observer]:
    async with running() as found:
        yield found


def export(namespace: str, *, failed: bool = True) -> dict[str, Any]:
    """A router's span, as anyone can write it."""
    now = time.time_ns()
    keys = {"component": "router", "namespace": namespace, "deployment": OWNER.name, "revision": real.CANARY}
    tags = {f"tapchanger.{key}": value for key, value in keys.items()} | {
        "http.status_code": "503" if failed else "200"
    }
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in tags.items()]
    span = {"startTimeUnixNano": str(now - 10**7), "endTimeUnixNano": str(now), "attributes": attributes}
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}


async def post(observer: Observer, body: dict[str, Any], token: str | None) -> tuple[int, dict[str, Any]]:
    url = f"http://127.0.0.1:{observer.ports['http']}/v1/traces"
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as session, session.post(url, json=body, headers=headers) as answer:
        return answer.status, await answer.json()


async def metrics(observer: Observer) -> str:
    url = f"http://127.0.0.1:{observer.ports['api']}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.text()


def counted(observer: Observer, namespace: str = OWNER.namespace) -> dict[str, int]:
    found = observer.windows.window(namespace, OWNER.name, 0, time.time() + 60)
    return {revision: bucket.requests for revision, bucket in found.items()}


async def test_forged_spans_are_refused_and_counted(observer: Observer) -> None:
    for token in (None, "made-up-0123456789", Issuer().token(OWNER.namespace), ISSUER.token("x", aud=["other"])):
        status, said = await post(observer, export(OWNER.namespace), token)
        assert status == 401, said
        assert said["code"] == 16
    async with grpc.aio.insecure_channel(f"127.0.0.1:{observer.ports['grpc']}") as channel:
        method: Any = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await method(b"")
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert counted(observer) == {}
    text = await metrics(observer)
    family = "tapchanger_observer_payloads_refused_total"
    assert f'{family}{{reason="unauthenticated",transport="http_json"}} 4.0' in text
    assert f'{family}{{reason="unauthenticated",transport="grpc"}} 1.0' in text


async def test_a_namespace_can_only_tell_of_itself(observer: Observer) -> None:
    status, said = await post(observer, export(OWNER.namespace), ISSUER.token("team-b"))
    assert status == 200
    assert said["partialSuccess"]["rejectedSpans"] == "1"
    assert "this credential is for team-b" in said["partialSuccess"]["errorMessage"]
    assert counted(observer) == {}
    assert observer.ingest.account.refused == {("http_json", "forbidden"): 1}
    assert await post(observer, export("team-b"), ISSUER.token("team-b")) == (200, {})
    assert counted(observer, "team-b") == {real.CANARY: 1}


async def test_only_credentials_make_the_observer_remember_what_was_asked(observer: Observer, tmp_path: Path) -> None:
    host, token = "127.0.0.1", tmp_path / "token"
    asked = (OWNER.namespace, OWNER.name, time.time() - 60, (0.05,))

    with httpx.Client(timeout=PATIENCE) as http:

        async def ask(file: Path | None) -> Windows | Silence:
            client = windows.Observer(host, file, http)
            client._base = f"http://{host}:{observer.ports['api']}/v1"
            return await asyncio.to_thread(client.windows, *asked)

        assert isinstance(await ask(None), Windows)
        assert not observer.windows.deployments
        token.write_text(ISSUER.token(SYSTEM))
        assert isinstance(await ask(token), Windows)
        assert observer.windows.deployments[OWNER.namespace, OWNER.name].thresholds == (0.05,)
        token.write_text("nonsense")
        silence = await ask(token)
        assert isinstance(silence, Silence)
        assert "401" in silence.why
        token.unlink()
        assert isinstance(await ask(token), Silence)


async def test_feedback_counts_for_the_namespace_of_its_sender(observer: Observer) -> None:
    await post(observer, export(OWNER.namespace), ISSUER.token(OWNER.namespace))
    score = {"namespace": OWNER.namespace, "deployment": OWNER.name, "revision": real.CANARY, "id": "1", "score": 0}
    url = f"http://127.0.0.1:{observer.ports['api']}/v1/feedback"
    answers = []
    async with aiohttp.ClientSession() as session:
        for token in (None, ISSUER.token("team-b"), ISSUER.token(OWNER.namespace)):
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            async with session.post(url, json=score, headers=headers) as answer:
                answers.append(answer.status)
    assert answers == [401, 403, 200]


async def test_a_router_shows_its_token_and_the_renewed_one(idle: real.Router, binary: str) -> None:
    """In a real Envoy, as the operator configures it. The first token is another namespace's, so that it is seen to go."""
    volume = real.ConfigVolume(idle.volume.folder.parent / "token")
    volume.write({TOKEN: ISSUER.token("team-b")})
    idle.configure({real.STABLE: 100})
    async with running(grpc_port=idle.ports[contract.OTLP_GRPC_PORT]) as observer:
        arguments = ("-c", str(idle.volume.folder / "bootstrap.json"), "--disable-hot-restart", "--concurrency", "1")
        envoy = await asyncio.create_subprocess_exec(binary, *arguments, stderr=subprocess.DEVNULL)
        try:
            async with asyncio.timeout(PATIENCE):
                while not await real._ready(idle):
                    await asyncio.sleep(0.1)
                assert (await idle.ask())[0] == 200
                while observer.ingest.account.refused["grpc", "forbidden"] < 1:
                    await asyncio.sleep(0.05)
                assert counted(observer) == {}
                volume.write({TOKEN: ISSUER.token(OWNER.namespace)})
                while not counted(observer):
                    await idle.ask()
                    await asyncio.sleep(0.3)
        finally:
            envoy.terminate()
            await envoy.wait()
        assert set(counted(observer)) == {real.STABLE}
        assert not observer.ingest.account.payloads_refused


async def test_a_server_shows_its_token_and_the_renewed_one(
    observer: Observer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("nonsense")
    keys = {"component": "server", "namespace": OWNER.namespace, "deployment": OWNER.name, "revision": real.STABLE}
    monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{observer.ports['http']}/v1/traces")
    monkeypatch.setenv(contract.ENV_OBSERVER_TOKEN, str(token))
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", ",".join(f"tapchanger.{key}={value}" for key, value in keys.items()))
    tracer = Tracer.from_environment("moderation")
    assert tracer is not None

    async def tell() -> None:
        now = time.time_ns()
        headers = {"x-request-start": f"t={now / 1e9 - 0.01:.6f}"}
        tracer.record(
            [Traced(headers, failed=False)], Phases(now - 2000, now - 1500, now - 500, now, 500, 1000, 500), 1
        )
        await asyncio.to_thread(tracer.flush)

    await tell()
    assert observer.ingest.account.payloads_refused == {("http_protobuf", "unauthenticated"): 1}
    token.write_text(ISSUER.token(OWNER.namespace))
    await tell()
    found = observer.windows.window(OWNER.namespace, OWNER.name, 0, time.time() + 60)
    assert found[real.STABLE].parts is not None
    assert found[real.STABLE].parts.every.spans == 1
