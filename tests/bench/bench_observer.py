"""Measures the observer: spans per second on one core, memory, and the error of its percentiles.

It starts `python -m tapchanger_serving.observer` on a core of its own and loads it from the others, with the payloads
that a router (OTLP/gRPC and OTLP/HTTP protobuf, 64 spans with Envoy's attributes each) and Triton (OTLP/HTTP JSON, trees of
three spans) send. The last line of the output is one JSON object:

- `grpc_spans_per_s`, `http_spans_per_s`, `json_spans_per_s`: by wall clock; a busy machine lowers them;
- `…_per_cpu_s`: spans per second of the observer's own CPU time, which is what one undisturbed core does;
- `rss_mib`: resident memory after the load on `deployments` × 3 revisions, with one request per revision and second;
- `percentile_error`: the largest relative error of p50, p90 and p99 against the exact ones;
- `lost`: spans that were sent and not counted.
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
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import grpc.aio
from aiohttp import ClientSession
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from tapchanger_serving.contract.windows import Windows

BATCH = 64
IN_FLIGHT = 8
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
ENVOY = {
    "node_id": "router-0",
    "zone": "",
    "http.method": "POST",
    "downstream_cluster": "-",
    "user_agent": "grpc-python-asyncio/1.85.1 grpc-c/58.0.0 (linux; chttp2)",
    "http.protocol": "HTTP/2",
    "peer.address": "10.244.0.17",
    "grpc.path": "/inference.GRPCInferenceService/ModelInfer",
    "grpc.authority": "moderation.default:8001",
    "grpc.content_type": "application/grpc",
    "request_size": "186",
    "response_size": "171",
    "component": "proxy",
    "upstream_cluster": "stable-grpc",
    "upstream_cluster.name": "stable-grpc",
    "http.status_code": "200",
    "response_flags": "-",
    "grpc.status_code": "0",
    "grpc.message": "",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Program:
    """The observer as a process on one core."""

    def __init__(self, core: int) -> None:
        self.ports = {name: free_port() for name in ("GRPC_PORT", "HTTP_PORT", "API_PORT")}
        environment = {
            **os.environ,
            **{f"TAPCHANGER_OBSERVER_{name}": str(port) for name, port in self.ports.items()},
            "TAPCHANGER_OBSERVER_AUTH": "open",
            "TAPCHANGER_OBSERVER_HOST": "127.0.0.1",
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
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def router_payloads(spans: Iterable[tuple[str, str, float, float]]) -> Iterator[bytes]:
    """Exports of one router: per span a deployment, a revision, the end (Unix seconds) and the latency (seconds)."""
    spans = iter(spans)
    while batch := list(islice(spans, BATCH)):
        message = trace_service_pb2.ExportTraceServiceRequest()
        resource_spans = message.resource_spans.add()
        resource = resource_spans.resource.attributes
        resource.add(key="service.name").value.string_value = "tapchanger-router"
        resource.add(key="tapchanger.component").value.string_value = "router"
        resource.add(key="tapchanger.namespace").value.string_value = "default"
        scope = resource_spans.scope_spans.add()
        for deployment, revision, end, seconds in batch:
            span = scope.spans.add(
                trace_id=random.randbytes(16),
                span_id=random.randbytes(8),
                name="ingress",
                kind=2,
                start_time_unix_nano=int((end - seconds) * 1e9),
                end_time_unix_nano=int(end * 1e9),
            )
            own = {
                "guid:x-request-id": f"{random.getrandbits(128):032x}",
                "http.url": f"http://{deployment}.default:8001/inference.GRPCInferenceService/ModelInfer",
                "tapchanger.deployment": deployment,
                "tapchanger.revision": revision,
            }
            for key, value in (own | ENVOY).items():
                span.attributes.add(key=key).value.string_value = value
        yield message.SerializeToString()


def triton_payloads(requests: int, now: float) -> Iterator[bytes]:
    """Exports of Triton pods: trees of three spans."""
    keys = {"component": "server", "namespace": "default", "deployment": "d0", "revision": "r0"}
    resource = {
        "attributes": [{"key": f"tapchanger.{key}", "value": {"stringValue": text}} for key, text in keys.items()]
    }
    for _ in range(requests // BATCH):
        spans = [span for _ in range(BATCH) for span in triton_tree(int((now - random.uniform(0, 30)) * 1e9))]
        scope = {"scope": {"name": "triton-server"}, "spans": spans}
        yield json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}).encode()


def triton_tree(start: int) -> list[dict[str, Any]]:
    trace, root, model, compute = (random.randbytes(size).hex() for size in (16, 8, 8, 8))

    def span(name: str, own: str, parent: str, first: int, last: int, **events: int) -> dict[str, Any]:
        return {
            "traceId": trace,
            "spanId": own,
            "parentSpanId": parent,
            "name": name,
            "kind": 2,
            "startTimeUnixNano": str(start + first),
            "endTimeUnixNano": str(start + last),
            "events": [{"name": event, "timeUnixNano": str(start + at)} for event, at in events.items()],
        }

    attributes = {"triton.model_name": {"stringValue": "m"}, "triton.model_version": {"intValue": "1"}}
    attributes |= {"triton.trace_id": {"intValue": "7"}, "triton.trace_parent_id": {"intValue": "0"}}
    engine = span("compute", compute, model, 5_000_000, 9_000_000, COMPUTE_START=5_000_000, COMPUTE_INPUT_END=5_100_000)
    engine["events"] += [
        {"name": "COMPUTE_OUTPUT_START", "timeUnixNano": str(start + 8_900_000)},
        {"name": "COMPUTE_END", "timeUnixNano": str(start + 9_000_000)},
    ]
    outer = span("m", model, root, 1_000, 9_100_000, REQUEST_START=1_000, QUEUE_START=2_000, REQUEST_END=9_100_000)
    outer["attributes"] = [{"key": key, "value": value} for key, value in attributes.items()]
    return [
        engine,
        outer,
        span("InferRequest", root, trace[:16], 0, 9_200_000, HTTP_RECV_START=10, HTTP_SEND_END=9_200_000),
    ]


async def push(payloads: list[bytes], send: Callable[[bytes], Awaitable[None]]) -> float:
    """Send all, some at a time; seconds come back."""
    left = iter(payloads)

    async def sender() -> None:
        for payload in left:
            await send(payload)

    began = time.perf_counter()
    await asyncio.gather(*(sender() for _ in range(IN_FLIGHT)))
    return time.perf_counter() - began


async def measure(
    program: Program, name: str, spans: int, payloads: list[bytes], send: Callable[[bytes], Awaitable[None]]
) -> dict[str, int]:
    before = program.cpu_seconds()
    wall = await push(payloads, send)
    cpu = program.cpu_seconds() - before
    print(f"{name}: {spans} spans in {wall:.2f} s, {cpu:.2f} s of CPU")
    return {f"{name}_spans_per_s": round(spans / wall), f"{name}_spans_per_cpu_s": round(spans / cpu)}


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


async def run(spans: int, deployments: int) -> dict[str, float]:
    cores = sorted(os.sched_getaffinity(0))
    program = Program(cores[0])
    os.sched_setaffinity(0, set(cores[1:]) or set(cores))
    result: dict[str, float] = {}
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

            def load(deployment: str) -> list[bytes]:
                revisions = random.choices(["r0", "r1"], [95, 5], k=spans)
                ends = sorted(now - random.uniform(0, 30) for _ in range(spans))
                return list(router_payloads(zip([deployment] * spans, revisions, ends, latencies, strict=True)))

            result |= await measure(program, "grpc", spans, load("d0"), by_grpc)
            result |= await measure(program, "http", spans, load("d1"), by_http("application/x-protobuf"))
            trees = spans // 3 // BATCH * BATCH
            payloads = list(triton_payloads(trees, now))
            result |= await measure(program, "json", 3 * trees, payloads, by_http("application/json"))
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
    return {**result, "deployments": deployments}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=96_000, help="spans per measurement")
    parser.add_argument("--deployments", type=int, default=990, help="deployments in the memory measurement")
    options = parser.parse_args()
    random.seed(1)
    print(json.dumps(asyncio.run(run(options.spans, options.deployments))))


if __name__ == "__main__":
    main()
