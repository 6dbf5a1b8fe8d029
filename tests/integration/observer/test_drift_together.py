"""Several observers, each a process of its own, of which each got some texts: whichever is asked answers for all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tapchanger_operator.observe import windows
from tapchanger_operator.snapshot import Silence
from tapchanger_serving.contract import drift, names
from tapchanger_serving.contract.drift import DriftWindow, Reference
from tests.support.patience import PATIENCE
from tests.support.ports import free_ports

KNOWN = Reference(digest="abc", texts=7, counts={"tokens": {3: 7}})
ABOUT = {"namespace": "default", "deployment": "moderation", "revision": "r1"}
NUMBER = 3
Program = tuple[subprocess.Popen[bytes], int, int]


def started(otlp: int, api: int, peers: str) -> Program:
    settings = {
        "GRPC_PORT": 0, "HTTP_PORT": otlp, "API_PORT": api, "HOST": "127.0.0.1", "AUTH": "open", "PEERS": peers,
        "REPLICAS": NUMBER,
    }  # fmt: skip
    env = (
        os.environ | {"PYTHONPATH": "serving"} | {f"TAPCHANGER_OBSERVER_{name}": str(v) for name, v in settings.items()}
    )
    process = subprocess.Popen([sys.executable, "-m", "tapchanger_serving.observer"], env=env)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            if httpx.get(f"http://127.0.0.1:{api}/readyz").status_code == 200:
                return process, otlp, api
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail("the observer does not become ready")


@pytest.fixture
def observers() -> Iterator[list[Program]]:
    ports = free_ports(2 * NUMBER)
    peers = ",".join(f"127.0.0.1:{port}" for port in ports[NUMBER:])
    found: list[Program] = []
    try:
        found.extend(started(ports[number], ports[NUMBER + number], peers) for number in range(NUMBER))
        yield found
    finally:
        for process, _, _ in found:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)


def span(number: int, end: float, **more: str) -> dict[str, Any]:
    bins = tuple(min(number, one.bins - 1) for one in drift.SIGNALS)
    told = {f"tapchanger.{name}": value for name, value in ABOUT.items()} | {
        "tapchanger.component": "server",
        "triton.model_name": "moderation",
        names.ATTR_COMPUTE: "0.001",
        names.ATTR_DRIFT: drift.encode(bins),
        names.ATTR_LABEL: f"l{number % 2}",
        **more,
    }
    return {
        "traceId": f"{number + 1:032x}",
        "spanId": f"{number + 1:016x}",
        "name": "moderation",
        "startTimeUnixNano": str(int((end - 0.01) * 1e9)),
        "endTimeUnixNano": str(int(end * 1e9)),
        "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in told.items()],
        "events": [{"name": "QUEUE_START", "timeUnixNano": str(int((end - 0.01) * 1e9))}],
    }


def asked(api: int, since: float) -> DriftWindow | Silence:
    """By the operator's own client."""
    with httpx.Client(timeout=PATIENCE) as http:
        client = windows.Observer("127.0.0.1", http=http)
        client._base = f"http://127.0.0.1:{api}/v1"
        return client.drift(ABOUT["namespace"], ABOUT["deployment"], ABOUT["revision"], since)


def test_each_answers_for_all_with_the_reference_of_any_or_not_at_all(observers: list[Program]) -> None:
    begin = int(time.time()) // 10 * 10 - 60
    for number in range(30):
        _, otlp, _ = observers[number % NUMBER]
        more = {names.ATTR_DRIFT_REFERENCE: KNOWN.dumps()} if number == 1 else {}
        body = {"resourceSpans": [{"scopeSpans": [{"spans": [span(number, begin + number, **more)]}]}]}
        assert httpx.post(f"http://127.0.0.1:{otlp}/v1/traces", json=body, timeout=PATIENCE).json() == {}
    for _, _, api in observers:
        found = asked(api, begin)
        assert isinstance(found, DriftWindow), found
        assert [(step.start, step.texts) for step in found.steps] == [(begin + 10 * n, 10) for n in range(3)]
        assert found.steps[0].counts["tokens"] == dict.fromkeys(range(10), 1)
        assert found.steps[0].labels == {"l0": 5, "l1": 5}
        assert found.reference == KNOWN
        later = asked(api, begin + 20)
        assert isinstance(later, DriftWindow)
        assert [step.start for step in later.steps] == [begin + 20]
    process, _, gone = observers[0]
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)
    silence = asked(observers[1][2], begin)
    assert isinstance(silence, Silence)
    assert "503" in silence.why
    own = httpx.get(
        f"http://127.0.0.1:{observers[1][2]}/v1/drift",
        params=ABOUT,
        headers={"x-tapchanger-forwarded": "1"},
        timeout=PATIENCE,
    )
    assert sum(step.texts for step in DriftWindow.model_validate_json(own.content).steps) == 10
    assert str(gone) not in own.text
