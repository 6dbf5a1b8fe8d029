"""What routers and servers send to an observer: OTLP payloads as Envoy and Triton make them."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from tapchanger_serving.contract import feedback, names

BATCH = 64
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


def feedback_payloads(sizes: Iterable[int]) -> tuple[list[bytes], list[bytes]]:
    """Exports of so many late labels of deployment `b` each, in protobuf and in JSON."""
    protobuf, texts = [], []
    for size in sizes:
        message = logs_service_pb2.ExportLogsServiceRequest()
        scope = message.resource_logs.add().scope_logs.add()
        for number in range(size):
            record = scope.log_records.add(event_name=feedback.EVENT, trace_id=bytes([number + 1]) * 16)
            own = {
                names.ATTR_NAMESPACE: "default",
                names.ATTR_DEPLOYMENT: "b",
                names.ATTR_REVISION: "r",
                f"{feedback.ATTR}label": "yes",
                f"{feedback.ATTR}answered": "no",
            }
            for key, value in own.items():
                record.attributes.add(key=key).value.string_value = value
            record.attributes.add(key=f"{feedback.ATTR}score").value.double_value = 0.5
        protobuf.append(message.SerializeToString())
        whole = json_format.MessageToDict(message)
        for record, told in zip(scope.log_records, whole["resourceLogs"][0]["scopeLogs"][0]["logRecords"], strict=True):
            told["traceId"] = record.trace_id.hex()
        texts.append(json.dumps(whole).encode())
    return protobuf, texts


def load(deployment: str, spans: int) -> list[bytes]:
    """A minute's requests of two revisions, as a router tells of them."""
    now = time.time()
    revisions = random.choices(["r0", "r1"], [95, 5], k=spans)
    ends = sorted(now - random.uniform(0, 30) for _ in range(spans))
    latencies = [random.lognormvariate(-3.5, 0.7) for _ in range(spans)]
    return list(router_payloads(zip([deployment] * spans, revisions, ends, latencies, strict=True)))
