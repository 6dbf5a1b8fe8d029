"""Verdicts from a real Collector and a real Prometheus beside the observer's, on the same spans.

The chart's own configuration of the Collector runs here: it proves tokens, counts, and passes the spans on to the observer.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from tapchanger_operator.api.base import timestamp
from tapchanger_operator.api.spec import TransformerDeploymentSpec
from tapchanger_operator.api.status import CanaryStatus, RevisionStatus, TransformerDeploymentStatus
from tapchanger_operator.decide import judge
from tapchanger_operator.observe.prometheus import Prometheus
from tapchanger_operator.observe.windows import Observer
from tapchanger_operator.snapshot import Silence
from tapchanger_operator.sources import PrometheusSettings
from tapchanger_serving.contract.windows import Windows
from tests.support import telemetry
from tests.support.patience import PATIENCE
from tests.support.ports import free_ports
from tests.support.samples import MODEL
from tests.support.tokens import Issuer

NAMESPACE, STABLE, CANARY, THRESHOLD = "default", "r-stable", "r-canary", 0.05
DELAY, SCRAPE = 8.0, 1.0
ISSUER = Issuer(curve=False)
SENDER = "collector-token-0123456789"
SPEC = TransformerDeploymentSpec.model_validate(
    {
        "model": MODEL,
        "slo": {"objectives": [{"latency": "50ms", "target": 0.9}, {"availability": 0.9}]},
        "rollout": {"steps": [{"weight": 50}], "analysis": {"minRequests": 100}},
    }
)
VALUES = {
    "images": {"collector": "registry.test/collector:1"},
    "observer": {"auth": {"sendersSecret": "observer-senders"}},
    "telemetry": {
        "collector": {
            "enabled": True, "keys": ISSUER.key_set(), "flush": "1s", "buckets": ["5ms", "10ms", "50ms", "100ms", "1s"],
        }
    },
}  # fmt: skip


@dataclass
class Stack:
    """What runs: ports, the two sources, and how to end the Collector and start it again."""

    folder: Path
    ports: dict[str, int]
    observer: Observer
    prometheus: Prometheus
    config: dict[str, Any]
    running: ExitStack = field(default_factory=ExitStack)
    began: float = 0.0
    """When all of it ran (Unix seconds), before the first request."""

    def start_collector(self) -> None:
        ports = [self.ports[name] for name in ("grpc", "http", "metrics")]
        self.running.enter_context(
            telemetry.collector(self.config, ports, self.folder / "collector", {"TAPCHANGER_SENDER_TOKEN": SENDER})
        )

    def scraped(self) -> None:
        """Waits until Prometheus has found the Collector."""
        until, url = time.time() + PATIENCE, f"http://127.0.0.1:{self.ports['prometheus']}/api/v1/query"
        while not httpx.get(url, params={"query": "up == 1"}, timeout=PATIENCE).json()["data"]["result"]:
            assert time.time() < until
            time.sleep(0.2)

    def stop_collector(self) -> None:
        self.running.close()
        self.running = ExitStack()

    def send(
        self, deployment: str, requests: list[dict[str, Any]], namespace: str = NAMESPACE, token: str | None = None
    ) -> httpx.Response:
        """A router's spans of requests that end now."""
        return httpx.post(
            f"http://127.0.0.1:{self.ports['http']}/v1/traces",
            content=payload(namespace, deployment, requests),
            headers={
                "Content-Type": "application/x-protobuf",
                "Authorization": f"Bearer {ISSUER.token(NAMESPACE) if token is None else token}",
            },
            timeout=PATIENCE,
        )


def payload(namespace: str, deployment: str, requests: list[dict[str, Any]]) -> bytes:
    message = trace_service_pb2.ExportTraceServiceRequest()
    resource_spans = message.resource_spans.add()
    own = {"component": "router", "namespace": namespace, "deployment": deployment}
    for key, value in own.items():
        resource_spans.resource.attributes.add(key=f"tapchanger.{key}").value.string_value = value
    scope, now = resource_spans.scope_spans.add(), time.time()
    for request in requests:
        span = scope.spans.add(
            trace_id=request.get("trace", random.randbytes(16)),
            span_id=random.randbytes(8),
            name="ingress",
            kind=request.get("kind", 2),
            trace_state=request.get("state", ""),
            start_time_unix_nano=int((now - request["seconds"]) * 1e9),
            end_time_unix_nano=int(now * 1e9),
        )
        tags = {"http.status_code": "200", "response_flags": "-", "tapchanger.revision": request["revision"]}
        for key, value in (tags | request.get("tags", {})).items():
            span.attributes.add(key=key).value.string_value = value
    return message.SerializeToString()


GRPC = {"grpc.path": "/inference.GRPCInferenceService/ModelInfer", "grpc.status_code": "0"}


def request(revision: str, *, worse: bool, chance: random.Random) -> dict[str, Any]:
    """One request: a worse revision fails one in twenty and is slow one in four."""
    lot = chance.random()
    seconds = chance.choice([0.004, 0.02, 0.049])
    tags: dict[str, str] = GRPC if chance.random() < 0.7 else {}
    if worse and lot < 0.05:
        tags = GRPC | {"grpc.status_code": "13"}
    elif worse and lot < 0.3:
        seconds = chance.choice([0.06, 0.3, 2.0])
    elif lot > 0.99:
        tags, seconds = GRPC | {"grpc.status_code": "0", "response_flags": "DC"}, 0.2
    # A client's wish to be counted sixteen times over.
    state = "ot=th:f" if chance.random() < 0.2 else ""
    return {"revision": revision, "seconds": seconds, "tags": tags, "state": state}


ODD = [
    {"revision": CANARY, "seconds": 9.0, "kind": 3},
    {"revision": "", "seconds": 9.0},
    {"revision": CANARY, "seconds": 0.01, "tags": {"grpc.path": "/x", "http.status_code": "200"}},
    {"revision": CANARY, "seconds": 0.01, "tags": {"http.status_code": "503", "response_flags": "UH"}},
    {"revision": CANARY, "seconds": 0.01, "tags": {"http.status_code": "200", "response_flags": "UC"}},
    {"revision": CANARY, "seconds": 0.01, "tags": {"http.status_code": "404"}},
]
"""An upstream span and one that no route took count nowhere; a call without a status, a 503 and a torn answer failed."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("telemetry")
    names = ("grpc", "http", "metrics", "otlp_grpc", "otlp_http", "api", "prometheus")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    keys, senders, token = folder / "jwks.json", folder / "senders", folder / "token"
    keys.write_text(ISSUER.key_set())
    senders.mkdir()
    (senders / "collector").write_text(SENDER)
    token.write_text(SENDER)
    config = localized(telemetry.chart_config(VALUES, folder), ports, keys)
    with ExitStack() as stack, httpx.Client(timeout=PATIENCE) as http:
        given = {
            "GRPC_PORT": ports["otlp_grpc"], "HTTP_PORT": ports["otlp_http"], "API_PORT": ports["api"], "HOST": "127.0.0.1",
            "SENDERS": senders, "KEYS_URL": "http://127.0.0.1:9/",
        }  # fmt: skip
        environment = {f"TAPCHANGER_OBSERVER_{name}": str(value) for name, value in given.items()}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        command = [sys.executable, "-m", "tapchanger_serving.observer"]
        stack.enter_context(
            telemetry.running(command, [ports["api"], ports["otlp_http"]], folder / "observer.log", environment)
        )
        stack.enter_context(
            telemetry.prometheus({"tapchanger-collector": ports["metrics"]}, ports["prometheus"], folder / "prometheus")
        )
        observer = Observer("127.0.0.1", token, http)
        observer._base = f"http://127.0.0.1:{ports['api']}/v1"
        settings = PrometheusSettings(f"http://127.0.0.1:{ports['prometheus']}", delay=DELAY)
        found = Stack(folder, ports, observer, Prometheus(settings, observer, time.time, http), config)
        found.start_collector()
        stack.callback(found.stop_collector)
        # The observer counts a threshold exactly from the second after the question.
        for deployment in ("good", "worse"):
            observer.windows(NAMESPACE, deployment, time.time() - 60, (THRESHOLD,))
        found.scraped()
        time.sleep(2 * SCRAPE)
        found.began = time.time()
        yield found


def localized(config: dict[str, Any], ports: dict[str, int], keys: Path) -> dict[str, Any]:
    """The configuration with this machine's ports and paths, and nothing else changed."""
    text = json.dumps(config)
    for wanted, there in (
        ("0.0.0.0:4317", f"127.0.0.1:{ports['grpc']}"),
        ("0.0.0.0:4318", f"127.0.0.1:{ports['http']}"),
        ("0.0.0.0:8889", f"127.0.0.1:{ports['metrics']}"),
        ("/keys/jwks.json", str(keys)),
    ):
        assert wanted in text
        text = text.replace(wanted, there)
    found: dict[str, Any] = json.loads(text)
    found["exporters"]["otlphttp/observer"]["endpoint"] = f"http://127.0.0.1:{ports['otlp_http']}"
    return found


def judged(windows: Windows | Silence, since: float, record: object) -> judge.Judged:
    at = timestamp(since)
    canary = CanaryStatus(
        revision=CANARY, build="b", uri="pvc://m/b", weight=50, step=0, created_at=at, since=at, step_started_at=at
    )
    stable = RevisionStatus(revision=STABLE, build="a", uri="pvc://m/a", weight=50)
    status = TransformerDeploymentStatus.model_validate({"stable": stable, "canary": canary, "analysis": record})
    seen = None if isinstance(windows, Silence) else windows
    found = judge.judge(SPEC, status, seen, seen, windows.why if isinstance(windows, Silence) else None, time.time())
    assert found is not None
    return found


def counts(windows: Windows | Silence) -> dict[str, Any]:
    assert not isinstance(windows, Silence), windows.why
    return {
        one.revision: (one.requests, one.unavailable, one.codes, [(over.threshold, over.bad) for over in one.over])
        for one in windows.revisions
    }


def settled(stack: Stack, deployment: str, since: float, requests: int) -> tuple[Windows, Windows]:
    """Both answers once both have counted so many requests."""
    until = time.time() + PATIENCE
    while True:
        pair = [
            source.windows(NAMESPACE, deployment, since, (THRESHOLD,)) for source in (stack.observer, stack.prometheus)
        ]
        first, second = pair
        if isinstance(first, Windows) and isinstance(second, Windows):
            totals = [sum(one.requests for one in found.revisions) for found in (first, second)]
            if totals == [requests, requests]:
                return first, second
            assert time.time() < until, f"counted {totals} of {requests}"
        assert time.time() < until, pair
        time.sleep(0.3)


@dataclass(frozen=True)
class Compared:
    """What both sources answered of two deployments, of which one has a canary that is worse."""

    since: float
    records: dict[tuple[str, str], Any]
    failed: dict[tuple[str, str], float]
    answers: dict[str, tuple[Windows, Windows]]


@pytest.fixture(scope="module")
def compared(stack: Stack) -> Compared:
    """Nine seconds of requests, judged by each source in each of them; then both have counted all."""
    chance = random.Random(7)
    since = time.time() - DELAY  # so that Prometheus' window, which begins later, has all of them
    sent = {"good": 0, "worse": 0}
    records: dict[tuple[str, str], Any] = {}
    failed: dict[tuple[str, str], float] = {}
    sources = {"observer": stack.observer, "prometheus": stack.prometheus}
    for second in range(9):
        for deployment in sent:
            worse = deployment == "worse"
            batch = [request(STABLE, worse=False, chance=chance) for _ in range(30)]
            batch += [request(CANARY, worse=worse, chance=chance) for _ in range(30)]
            assert stack.send(deployment, batch).status_code == 200
            sent[deployment] += len(batch)
            for name, source in sources.items():
                key = (deployment, name)
                found = judged(source.windows(NAMESPACE, deployment, since, (THRESHOLD,)), since, records.get(key))
                records[key] = found.record.model_dump()
                if found.judgement.result == "Fail":
                    failed.setdefault(key, time.time())
        time.sleep(1 if second < 8 else 0)
    stack.send("worse", ODD)
    sent["worse"] += len(ODD) - 2
    answers = {deployment: settled(stack, deployment, since, requests) for deployment, requests in sent.items()}
    return Compared(since, records, failed, answers)


def test_both_sources_give_the_same_counts_and_verdicts(compared: Compared) -> None:
    """A canary that is worse fails, one that isn't passes, by either source at nearly the same time."""
    failed = dict(compared.failed)
    for deployment, (first, second) in compared.answers.items():
        assert counts(first) == counts(second)
        for name, answer in (("observer", first), ("prometheus", second)):
            found = judged(answer, compared.since, compared.records[deployment, name])
            assert found.judgement.result == ("Fail" if deployment == "worse" else "Pass"), (name, found.judgement)
            if found.judgement.result == "Fail":
                failed.setdefault((deployment, name), time.time())
    assert {key for key in failed if key[0] == "good"} == set()
    late = failed["worse", "prometheus"] - failed["worse", "observer"]
    assert -SCRAPE <= late <= DELAY + 2 * SCRAPE, f"Prometheus' verdict came {late:.1f} s after the observer's"


@pytest.mark.usefixtures("compared")
def test_quantiles_are_in_the_buckets_of_the_exact_ones(stack: Stack) -> None:
    since = stack.began - DELAY
    exact, told = (
        source.windows(NAMESPACE, "worse", since, (THRESHOLD,)) for source in (stack.observer, stack.prometheus)
    )
    assert isinstance(exact, Windows)
    assert isinstance(told, Windows)
    edges = [0.0, 0.005, 0.01, 0.05, 0.1, 1.0, float("inf")]

    def bucket(value: float) -> int:
        return next(place for place, edge in enumerate(edges) if value <= edge * 1.011)

    for one, other in zip(exact.revisions, told.revisions, strict=True):
        for name in ("p50", "p90", "p99"):
            wanted, found = getattr(one.latency, name), getattr(other.latency, name)
            assert abs(bucket(wanted) - bucket(found)) <= 1, (one.revision, name, wanted, found)
            interval = getattr(other.latency, f"{name}_interval")
            assert (interval.low or 0.0) <= wanted * 1.011
            assert interval.high is None or wanted <= interval.high * 1.011


def test_exemplars_are_real_bad_requests(stack: Stack) -> None:
    trace = random.randbytes(16)
    since = time.time() - DELAY
    stack.send(
        "named", [{"revision": CANARY, "seconds": 0.02, "tags": GRPC | {"grpc.status_code": "14"}, "trace": trace}]
    )
    _, told = settled(stack, "named", since, 1)
    until = time.time() + PATIENCE
    while not told.revisions[0].exemplars and time.time() < until:
        _, told = settled(stack, "named", since, 1)
    (exemplar,) = told.revisions[0].exemplars
    assert (exemplar.trace_id, exemplar.code) == (trace.hex(), "grpc/14")
    assert exemplar.seconds == pytest.approx(0.02, rel=1e-3)


def test_strangers_and_other_namespaces_count_nothing(stack: Stack) -> None:
    forged = [{"revision": CANARY, "seconds": 9.0}]
    assert stack.send("forged", forged, token="made-up").status_code == 401
    assert stack.send("forged", forged, token=Issuer(curve=False).token(NAMESPACE)).status_code == 401
    assert stack.send("forged", forged, token=ISSUER.token(NAMESPACE, aud=["other"])).status_code == 401
    stack.send("forged", forged, token=ISSUER.token("team-b"))
    since = time.time() - DELAY
    assert stack.send("forged", [{"revision": STABLE, "seconds": 0.01}]).status_code == 200
    first, second = settled(stack, "forged", since, 1)
    assert list(counts(first)) == list(counts(second)) == [STABLE]


@pytest.mark.usefixtures("compared")
def test_a_threshold_without_a_bucket_is_refused_in_words(stack: Stack) -> None:
    found = stack.prometheus.windows(NAMESPACE, "good", time.time() - 30, (0.037,))
    assert isinstance(found, Silence)
    assert "no bucket of the span metrics ends at 0.037 s, only at 0.005, 0.01, 0.05, 0.1, 1" in found.why
    assert "telemetry.collector.buckets" in found.why


def test_nothing_counts_twice_and_nothing_is_lost_when_a_collector_begins_anew(stack: Stack) -> None:
    since = time.time() - DELAY
    chance = random.Random(3)
    batch = [request(CANARY, worse=True, chance=chance) for _ in range(80)]
    stack.send("restart", batch)
    settled(stack, "restart", since, 80)
    stack.stop_collector()
    silences = set()
    until = time.time() + PATIENCE
    while time.time() < until and not silences:
        found = stack.prometheus.windows(NAMESPACE, "restart", since, (THRESHOLD,))
        silences |= {found.why} if isinstance(found, Silence) else set()
        time.sleep(0.2)
    assert any("1 of the Collectors that counted requests can't be scraped now" in why for why in silences), silences
    stack.start_collector()
    stack.scraped()
    stack.send("restart", batch)
    first, second = settled(stack, "restart", since, 160)
    assert counts(first) == counts(second)


@pytest.mark.usefixtures("compared")
def test_what_only_the_observer_knows_is_named_when_it_is_away(stack: Stack) -> None:
    settings = PrometheusSettings(f"http://127.0.0.1:{stack.ports['prometheus']}", delay=DELAY)
    with httpx.Client(timeout=PATIENCE) as http:
        nobody = Observer("127.0.0.1", None, http)
        nobody._base = "http://127.0.0.1:9/v1"
        alone = Prometheus(settings, nobody, time.time, http)
        found = alone.windows(NAMESPACE, "worse", stack.began - DELAY, (THRESHOLD,))
        copies = alone.mirrored(NAMESPACE, "worse", stack.began, (THRESHOLD,))
    assert isinstance(found, Windows)
    assert found.missing.startswith(
        "where the time went, answers to copies and feedback are not known: the observer did"
    )
    assert sum(one.requests for one in found.revisions) > 500
    assert isinstance(copies, Silence)


def test_a_deployment_that_nobody_counted_is_no_deployment_without_requests(stack: Stack) -> None:
    found = stack.prometheus.windows(NAMESPACE, "unheard", time.time() - 60, (THRESHOLD,))
    assert isinstance(found, Silence)
    assert "no request has come, or the Collector isn't told of them" in found.why
