"""The observer is killed in the middle of a canary: its windows come back, and the verdict waits meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import httpx

from tapchanger_operator.api.base import timestamp
from tapchanger_operator.api.status import CanaryStatus, RevisionStatus, TransformerDeploymentStatus
from tapchanger_operator.decide import judge
from tapchanger_operator.observe import windows
from tapchanger_operator.snapshot import Silence
from tapchanger_serving.contract.windows import Windows
from tests.bench.payloads import router_payloads
from tests.support.patience import PATIENCE
from tests.support.ports import free_ports
from tests.support.samples import spec

STABLE, CANARY = "aaaaaaaaaa", "bbbbbbbbbb"
SPEC = spec(
    slo={"objectives": [{"latency": "50ms", "target": 0.99}, {"availability": 0.999}]},
    rollout={"analysis": {"timeout": "10m", "minRequests": 100_000}},
)
PROTOBUF = {"Content-Type": "application/x-protobuf"}
SAVED = 0.2


@dataclass
class Program:
    """The observer as a process of its own, and its state file."""

    state: Path
    ports: list[int]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.subprocess.Process]:
        names = dict(zip(("GRPC_PORT", "HTTP_PORT", "API_PORT"), map(str, self.ports), strict=True))
        settings = {"AUTH": "open", "HOST": "127.0.0.1", "STATE": str(self.state), "STATE_SECONDS": str(SAVED), **names}
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TAPCHANGER_")},
            **{f"TAPCHANGER_OBSERVER_{name}": value for name, value in settings.items()},
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        command = (sys.executable, "-m", "tapchanger_serving.observer")
        process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=asyncio.subprocess.DEVNULL)
        try:
            await self._ready()
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def _ready(self) -> None:
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(f"http://127.0.0.1:{self.ports[2]}/readyz") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)

    async def send(self, requests: list[tuple[str, float]]) -> None:
        """A router's spans: revisions and latencies (seconds) of requests that end now."""
        now = time.time()
        spans = [("moderation", revision, now, seconds) for revision, seconds in requests]
        async with aiohttp.ClientSession() as session:
            for payload in router_payloads(spans):
                url = f"http://127.0.0.1:{self.ports[1]}/v1/traces"
                async with session.post(url, data=payload, headers=PROTOBUF) as answer:
                    assert answer.status == 200

    async def saved(self, requests: int) -> None:
        """Waits until the state file holds so many requests."""
        async with asyncio.timeout(PATIENCE):
            while True:
                if self.state.exists():
                    found = json.loads(self.state.read_text())
                    minutes = [m for d in found["deployments"] for r in d["revisions"] for m in r["minutes"]]
                    if sum(bucket[1] for minute in minutes for bucket in minute["buckets"]) >= requests:
                        return
                await asyncio.sleep(0.05)


def status(since: float, record: object = None) -> TransformerDeploymentStatus:
    at = timestamp(since)
    canary = CanaryStatus(
        revision=CANARY, build="b", uri="pvc://m/b", weight=5, step=0, created_at=at, since=at, step_started_at=at
    )
    stable = RevisionStatus(revision=STABLE, build="a", uri="pvc://m/a", weight=95)
    return TransformerDeploymentStatus.model_validate({"stable": stable, "canary": canary, "analysis": record})


async def test_a_killed_observer_loses_nothing_that_was_saved_and_no_verdict(tmp_path: Path) -> None:
    program = Program(tmp_path / "windows.json", free_ports(3))
    since = time.time() - 30
    with httpx.Client(timeout=PATIENCE) as http:
        client = windows.Observer("127.0.0.1", None, http)
        client._base = f"http://127.0.0.1:{program.ports[2]}/v1"

        async def look(record: object) -> tuple[Windows | Silence, judge.Judged]:
            seen = await asyncio.to_thread(client.windows, "default", "moderation", since, (0.05,))
            silence = seen.why if isinstance(seen, Silence) else None
            known = None if isinstance(seen, Silence) else seen
            found = judge.judge(SPEC, status(since, record), known, known, silence, time.time())
            assert found is not None
            return seen, found

        async with program.running() as first:
            await look(None)
            await asyncio.sleep(1.0)  # a threshold is exact from the next second on
            await program.send([(STABLE, 0.01)] * 950 + [(CANARY, 0.01)] * 48 + [(CANARY, 0.2)] * 2)
            await program.saved(1_000)
            before, judged = await look(None)
            first.send_signal(signal.SIGKILL)
            assert await first.wait() == -signal.SIGKILL
        assert isinstance(before, Windows)
        assert judged.judgement.result == "Inconclusive"
        silent, meanwhile = await look(judged.record)
        assert isinstance(silent, Silence)
        assert meanwhile.judgement.result == "Inconclusive"
        async with program.running():
            after, again = await look(meanwhile.record)
    assert isinstance(after, Windows)
    assert after.revisions == before.revisions
    assert again.judgement.result == "Inconclusive"
    assert again.record.requests == judged.record.requests == 50
