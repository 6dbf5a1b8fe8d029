"""Measures the observer: spans per second on one core, memory, and the error of its percentiles.

It starts `python -m tapchanger_serving.observer` on a core of its own and loads it from the others, with the payloads
that a router (OTLP/gRPC and OTLP/HTTP protobuf, 64 spans with Envoy's attributes each) and Triton (OTLP/HTTP JSON, trees of
three spans) send. Then the OpenTelemetry Collector with its span metrics connector gets the same payloads of the router on the
same core. The last line of the output is one JSON object:

- `grpc_spans_per_s`, `http_spans_per_s`, `json_spans_per_s`: by wall clock; a busy machine lowers them;
- `…_per_cpu_s`: spans per second of the observer's own CPU time, which is what one undisturbed core does; `…_sender_per_cpu_s`,
  of the time that sending took, on another core: where it is the lower one the figure by the clock is the sender's;
- `rss_mib`: resident memory after the load on `deployments` × 3 revisions, with one request per revision and second;
- `percentile_error`: the largest relative error of p50, p90 and p99 against the exact ones;
- `lost`: spans that were sent and not counted, below the limit on what may wait;
- `overload`: payloads sent all at once to an observer that lets few wait: taken, turned away, and lost though taken;
- `collector_…`: what the Collector does with the router's payloads, and its resident memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc.aio
from aiohttp import ClientSession, TCPConnector

from tapchanger_serving.contract.windows import Windows
from tests.bench import collector
from tests.bench.payloads import BATCH, load, router_payloads, triton_payloads

IN_FLIGHT = 8
PROTOBUF = {"Content-Type": "application/x-protobuf"}
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Program:
    """The observer as a process on one core."""

    def __init__(self, core: int, **settings: int) -> None:
        self.ports = {name: free_port() for name in ("GRPC_PORT", "HTTP_PORT", "API_PORT")}
        environment = {
            **os.environ,
            **{f"TAPCHANGER_OBSERVER_{name}": str(port) for name, port in self.ports.items()},
            "TAPCHANGER_OBSERVER_AUTH": "open",
            "TAPCHANGER_OBSERVER_HOST": "127.0.0.1",
            **{f"TAPCHANGER_OBSERVER_{name.upper()}": str(value) for name, value in settings.items()},
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        command = [sys.executable, "-m", "tapchanger_serving.observer"]
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        os.sched_setaffinity(self.process.pid, {core})

    def address(self, port: str) -> str:
        return f"127.0.0.1:{self.ports[port]}"

    async def ready(self) -> None:
        async with ClientSession() as session:
            for _ in range(600):
                try:
                    async with session.get(f"http://{self.address('API_PORT')}/readyz") as answer:
                        if answer.status == 200:
                            return
                except OSError:
                    pass
                await asyncio.sleep(0.1)
        sys.exit("the observer did not start")

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.process)

    def rss_mib(self) -> float:
        return rss_mib(self.process)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(process: subprocess.Popen[bytes]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def push(payloads: list[bytes], send: Callable[[bytes], Awaitable[None]], in_flight: int = IN_FLIGHT) -> float:
    """Send all, `in_flight` at a time; seconds come back."""
    left = iter(payloads)

    async def sender() -> None:
        for payload in left:
            await send(payload)

    began = time.perf_counter()
    await asyncio.gather(*(sender() for _ in range(in_flight)))
    return time.perf_counter() - began


async def measure(
    process: subprocess.Popen[bytes],
    name: str,
    spans: int,
    payloads: list[bytes],
    send: Callable[[bytes], Awaitable[None]],
) -> dict[str, float]:
    before, own = cpu_seconds(process), time.process_time()
    wall = await push(payloads, send)
    cpu, own = cpu_seconds(process) - before, time.process_time() - own
    print(f"{name}: {spans} spans in {wall:.2f} s, {cpu:.2f} s of CPU; sending took {own:.2f} s")
    return {
        f"{name}_spans_per_s": round(spans / wall),
        f"{name}_spans_per_cpu_s": round(spans / cpu),
        f"{name}_sender_per_cpu_s": round(spans / own),
    }


async def windows(program: Program, session: ClientSession, deployment: str) -> Windows:
    url = f"http://{program.address('API_PORT')}/v1/windows"
    query = {"namespace": "default", "deployment": deployment, "latency": "0.05"}
    async with session.get(url, params=query) as answer:
        return Windows.model_validate_json(await answer.text())


def percentile_error(found: Windows, exact: list[float]) -> float:
    latency = found.revisions[0].latency
    exact = sorted(exact)
    pairs = ((latency.p50, 0.5), (latency.p90, 0.9), (latency.p99, 0.99))
    errors = [abs((value or 0) / exact[int(q * (len(exact) - 1))] - 1) for value, q in pairs]
    return max(errors)


async def overload(core: int, spans: int) -> dict[str, int]:
    """Hundreds of payloads at a time, of which 16 may wait. What was taken must be counted, to the last span."""
    program = Program(core, max_waiting=16)
    answers: Counter[int] = Counter()
    try:
        await program.ready()
        url = f"http://{program.address('HTTP_PORT')}/v1/traces"
        async with ClientSession(connector=TCPConnector(limit=0)) as session:

            async def send(payload: bytes) -> None:
                async with session.post(url, data=payload, headers=PROTOBUF) as answer:
                    answers[answer.status] += 1

            await push(load("d0", spans // BATCH * BATCH), send, in_flight=256)
            counted = await windows(program, session, "d0")
    finally:
        program.stop()
    if answers.keys() - {200, 429}:
        sys.exit(f"unexpected answers: {answers}")
    lost = BATCH * answers[200] - sum(one.requests for one in counted.revisions)
    return {"taken": answers[200], "refused": answers[429], "lost": lost}


async def beside(core: int, spans: int) -> dict[str, float]:
    """The Collector, with the same payloads and as many in flight, on the same core."""
    ports = {name: free_port() for name in ("GRPC_PORT", "HTTP_PORT", "METRICS_PORT")}
    with tempfile.TemporaryDirectory() as folder:
        process = collector.start(ports, Path(folder), core)
        try:
            return await _collected(process, ports, spans)
        finally:
            process.terminate()
            process.wait()


async def _collected(process: subprocess.Popen[bytes], ports: dict[str, int], spans: int) -> dict[str, float]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ports['GRPC_PORT']}") as channel, ClientSession() as session:
        await asyncio.wait_for(channel.channel_ready(), 60)
        export: Any = channel.unary_unary(EXPORT)

        async def send(payload: bytes) -> None:
            await export(payload)

        url = f"http://127.0.0.1:{ports['HTTP_PORT']}/v1/traces"

        async def post(payload: bytes) -> None:
            async with session.post(url, data=payload, headers=PROTOBUF) as answer:
                answer.raise_for_status()

        await push(load("warm", 64 * BATCH), send)
        found = await measure(process, "collector", spans, load("d0", spans), send)
        found |= await measure(process, "collector_http", spans, load("d1", spans), post)
        return {**found, "collector_rss_mib": round(rss_mib(process), 1)}


async def run(spans: int, deployments: int, *, with_collector: bool) -> dict[str, Any]:
    cores = sorted(os.sched_getaffinity(0))
    program = Program(cores[0])
    os.sched_setaffinity(0, set(cores[1:]) or set(cores))
    result: dict[str, Any] = {}
    try:
        await program.ready()
        async with (
            ClientSession() as session,
            grpc.aio.insecure_channel(program.address("GRPC_PORT")) as channel,
        ):
            export: Any = channel.unary_unary(EXPORT)

            async def by_grpc(payload: bytes) -> None:
                await export(payload)

            def by_http(media_type: str) -> Callable[[bytes], Awaitable[None]]:
                url = f"http://{program.address('HTTP_PORT')}/v1/traces"

                async def post(payload: bytes) -> None:
                    async with session.post(url, data=payload, headers={"Content-Type": media_type}) as answer:
                        if answer.status != 200:
                            sys.exit(f"HTTP {answer.status}: {await answer.text()}")

                return post

            now = time.time()
            latencies = [random.lognormvariate(-3.5, 0.7) for _ in range(spans)]

            result |= await measure(program.process, "grpc", spans, load("d0", spans), by_grpc)
            result |= await measure(
                program.process, "http", spans, load("d1", spans), by_http("application/x-protobuf")
            )
            trees = spans // 3 // BATCH * BATCH
            payloads = list(triton_payloads(trees, now))
            result |= await measure(program.process, "json", 3 * trees, payloads, by_http("application/json"))
            counted = [await windows(program, session, name) for name in ("d0", "d1")]
            result["lost"] = 2 * spans - sum(one.requests for found in counted for one in found.revisions)
            result["lost"] += 3 * (trees - counted[0].revisions[0].stages.spans)

            one_revision = zip(["exact"] * spans, ["r0"] * spans, [now] * spans, latencies, strict=True)
            await push(list(router_payloads(one_revision)), by_grpc)
            error = percentile_error(await windows(program, session, "exact"), latencies)
            result["percentile_error"] = round(error, 5)

            many = [
                (f"many{number}", f"r{revision}", now - second, random.lognormvariate(-3.5, 0.7))
                for second in range(60, 0, -1)
                for number in range(deployments)
                for revision in range(3)
            ]
            for start in range(0, len(many), 50_000):
                await push(list(router_payloads(many[start : start + 50_000])), by_grpc)
            result["rss_mib"] = round(program.rss_mib(), 1)
            began = time.perf_counter()
            for _ in range(20):
                await windows(program, session, "d0")
            result["query_ms"] = round((time.perf_counter() - began) / 20 * 1000, 2)
    finally:
        program.stop()
    result["overload"] = await overload(cores[0], spans // 2)
    if with_collector:
        result |= await beside(cores[0], spans)
    return {**result, "deployments": deployments}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=96_000, help="spans per measurement")
    parser.add_argument("--deployments", type=int, default=990, help="deployments in the memory measurement")
    parser.add_argument("--without-collector", action="store_true", help="don't build and measure the Collector")
    options = parser.parse_args()
    if not options.without_collector:
        collector.binary()
    random.seed(1)
    print(
        json.dumps(asyncio.run(run(options.spans, options.deployments, with_collector=not options.without_collector)))
    )


if __name__ == "__main__":
    main()
