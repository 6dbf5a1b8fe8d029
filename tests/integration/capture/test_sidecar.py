"""The real sidecar process: from the server's socket to a real S3 store, through trouble, crashes and its end."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyrage
import pytest
import s3fs

from tapchanger_serving.backends.batch import Texts
from tapchanger_serving.backends.capture import Capturer
from tapchanger_serving.capture.pack import MANIFEST
from tapchanger_serving.contract import names
from tapchanger_serving.contract.capture import ENV_ORDER, TELL_PATH, Encryption, Order, Sampling, Told
from tests.support.breaking_proxy import breaking_proxy
from tests.support.patience import PATIENCE
from tests.support.ports import free_ports
from tests.support.stores import KEY, SECRET, Server, s3_store

BUCKET = "captures"
PREFIX = f"s3://{BUCKET}/texts/team-a/moderation"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = json.dumps(
    {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "x-request-start": "t=1.0", "x-capture-consent": "granted"}
)
ANSWER = {names.LABEL: np.array([[b"toxic"]], dtype=object), names.SCORE: np.array([[0.9]], dtype=np.float32)}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with s3_store(tmp_path_factory.mktemp("s3") / "store") as server:
        client(server).mkdir(BUCKET)
        yield server


def client(server: Server) -> s3fs.S3FileSystem:
    return s3fs.S3FileSystem(endpoint_url=server.url, key=KEY, secret=SECRET, skip_instance_cache=True)


@dataclass
class Sidecar:
    """A running sidecar. `offer` hands it a text as a server does."""

    process: subprocess.Popen[str]
    port: int
    offer: Callable[[str], None]

    def told(self) -> Told:
        return Told.model_validate_json(httpx.get(f"http://127.0.0.1:{self.port}{TELL_PATH}", timeout=PATIENCE).content)

    def until(self, holds: Callable[[Told], bool], seconds: float = PATIENCE) -> Told:
        end = time.monotonic() + seconds
        while True:
            try:
                found = self.told()
            except httpx.HTTPError:
                found = Told()
            if holds(found) or time.monotonic() > end:
                assert holds(found), found
                return found
            time.sleep(0.05)

    def end(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, output
        return output


@pytest.fixture
def start(tmp_path: Path, store: Server) -> Iterator[Callable[..., Sidecar]]:
    running: list[subprocess.Popen[str]] = []

    def begin(prefix: str = PREFIX, endpoint: str = "", secret: str = "", **order: Any) -> Sidecar:
        (port,) = free_ports(1)
        told = {"encryption": Encryption(type="None"), "flush_seconds": 0.3, **order}
        given = Order(
            prefix=prefix,
            revision="5f3a9c1b2d",
            endpoint=endpoint or store.url,
            retention_seconds=3600,
            secret=secret,
            **told,
        )
        socket = tmp_path / "texts.sock"
        (tmp_path / "spool").mkdir(exist_ok=True)
        environment = {
            **os.environ,
            ENV_ORDER: given.dumps(),
            "POD_NAME": "moderation-0",
            "TAPCHANGER_CAPTURE_PORT": str(port),
            "TAPCHANGER_CAPTURE_SOCKET": str(socket),
            "TAPCHANGER_CAPTURE_SPOOL": str(tmp_path / "spool"),
            # The development environment's libraries take more memory than the image's.
            "TAPCHANGER_CAPTURE_MEMORY_MIB": "4096",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "tapchanger_serving.capture"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        running.append(process)
        capturer = Capturer(Sampling(revision="5f3a9c1b2d", share=1.0, per_minute=60_000, socket=str(socket)))
        end = time.monotonic() + PATIENCE
        while not socket.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        return Sidecar(process, port, lambda text: capturer.offer(HEADERS, Texts((text,)), ANSWER))

    yield begin
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        if process.stdout and not process.stdout.closed:
            process.communicate()


def records(store: Server, prefix: str = PREFIX) -> list[dict[str, Any]]:
    found = client(store)
    paths = [path for path in found.find(prefix.removeprefix("s3://")) if path.endswith(".jsonl.gz")]
    return [json.loads(line) for path in paths for line in gzip.decompress(found.cat(path)).splitlines()]


def test_texts_get_from_the_server_to_the_store_without_personal_data(
    store: Server, start: Callable[..., Sidecar]
) -> None:
    prefix = f"{PREFIX}-whole"
    sidecar = start(prefix)
    sidecar.offer("Please write to jane.doe@example.com about the order.")
    sidecar.until(lambda told: told.stored >= 1)
    sidecar.offer("Another one, which is quite harmless.")
    output = sidecar.end()
    found = records(store, prefix)
    assert [one["text"] for one in found] == [
        "Please write to <EMAIL> about the order.",
        "Another one, which is quite harmless.",
    ]
    assert {one["id"] for one in found} == {TRACE}
    assert {(one["label"], one["confidence"]) for one in found} == {("toxic", 0.9)}
    assert "jane" not in output
    assert "harmless" not in output
    objects = client(store).find(prefix.removeprefix("s3://"))
    assert sum(path.endswith(MANIFEST) for path in objects) == len(objects) / 2
    metrics = [path for path in objects if "5f3a9c1b2d/moderation-0-" in path]
    assert len(metrics) == len(objects)


def test_metrics_have_numbers_and_no_text(start: Callable[..., Sidecar]) -> None:
    sidecar = start(f"{PREFIX}-metrics")
    sidecar.offer("Please write to jane.doe@example.com about the order.")
    sidecar.offer("JANE DOE IS SHOUTING")
    sidecar.until(lambda told: told.captured == 1 and told.dropped == {"unclear": 1})
    text = httpx.get(f"http://127.0.0.1:{sidecar.port}/metrics", timeout=PATIENCE).text
    assert 'tapchanger_capture_redactions_total{kind="email"} 1.0' in text
    assert 'tapchanger_capture_dropped_total{reason="unclear"} 1.0' in text
    assert "jane" not in text.lower()
    assert httpx.get(f"http://127.0.0.1:{sidecar.port}/healthz", timeout=PATIENCE).is_success


@pytest.mark.parametrize("kind", ["SSE-S3", "Age"])
def test_encryption_is_asked_for_or_done(store: Server, start: Callable[..., Sidecar], kind: str) -> None:
    identity = pyrage.x25519.Identity.generate()
    recipients = (str(identity.to_public()),) if kind == "Age" else ()
    prefix = f"{PREFIX}-{kind.lower()}"
    sidecar = start(prefix, encryption=Encryption(type=kind, recipients=recipients))  # type: ignore[arg-type]
    sidecar.offer("This one is for few eyes.")
    sidecar.until(lambda told: told.stored == 1)
    sidecar.end()
    (path,) = [path for path in client(store).find(prefix.removeprefix("s3://")) if not path.endswith(MANIFEST)]
    body = client(store).cat(path)
    if kind == "Age":
        assert path.endswith(".jsonl.gz.age")
        body = pyrage.decrypt(body, [identity])
    assert b"few eyes" in gzip.decompress(body)


def test_a_store_that_comes_late_gets_all_and_its_trouble_is_told(store: Server, start: Callable[..., Sidecar]) -> None:
    prefix = f"{PREFIX}-late"
    with breaking_proxy(store.port, cut_after=200) as proxy:
        sidecar = start(prefix, endpoint=f"http://127.0.0.1:{proxy.port}")
        sidecar.offer("It waits until the store is there.")
        sidecar.until(lambda told: "StoreUnreachable" in told.trouble, seconds=90)
        os.killpg(sidecar.process.pid, signal.SIGKILL)
        sidecar.process.communicate()
    again = start(prefix)
    again.until(lambda told: told.stored == 1)
    assert [one["text"] for one in records(store, prefix)] == ["It waits until the store is there."]


def test_a_missing_secret_is_told_and_nothing_ends(start: Callable[..., Sidecar]) -> None:
    sidecar = start(f"{PREFIX}-secret", secret="not-there")
    sidecar.offer("It waits for the Secret.")
    told = sidecar.until(lambda found: bool(found.trouble))
    assert "not-there" in told.trouble
    assert "spec.capture.destination" not in told.trouble or "secretName" in told.trouble
    assert sidecar.process.poll() is None
    sidecar.process.terminate()
    sidecar.process.communicate(timeout=PATIENCE)


def test_a_worker_that_dies_is_started_again_and_the_container_goes_on(
    store: Server, start: Callable[..., Sidecar]
) -> None:
    prefix = f"{PREFIX}-killed"
    sidecar = start(prefix)
    sidecar.offer("Before.")
    sidecar.until(lambda told: told.stored == 1)
    (worker,) = children(sidecar.process.pid)
    os.kill(worker, signal.SIGKILL)
    sidecar.until(lambda told: told.stored == 0)
    end = time.monotonic() + PATIENCE
    while len(records(store, prefix)) < 2 and time.monotonic() < end:
        sidecar.offer("Afterwards.")
        time.sleep(0.5)
    assert {one["text"] for one in records(store, prefix)} == {"Before.", "Afterwards."}
    assert sidecar.process.poll() is None


def children(parent: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def test_the_job_deletes_what_is_too_old(store: Server, tmp_path: Path) -> None:
    prefix = f"{PREFIX}-old"
    found = client(store)
    room = prefix.removeprefix("s3://")
    found.pipe(f"{room}/2026-01-01/r/p-1.jsonl.gz", b"x")
    found.pipe(f"{PREFIX.removeprefix('s3://')}-older/2026-01-01/r/p-1.jsonl.gz", b"x")
    time.sleep(1.1)
    with environment(store, prefix, 1.0) as env:
        done = subprocess.run(
            [sys.executable, "-m", "tapchanger_serving.capture", "retain"],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    found.invalidate_cache()
    assert found.find(room) == []
    assert found.find(f"{room}er") != []


def test_the_job_tells_what_is_wrong_with_the_store(store: Server, tmp_path: Path) -> None:
    with environment(store, "s3://no-such-bucket/texts/team-a/moderation", 1.0) as env:
        done = subprocess.run(
            [sys.executable, "-m", "tapchanger_serving.capture", "retain"],
            env={**env, "TAPCHANGER_TERMINATION_LOG": str(tmp_path / "word")},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 42, done.stdout + done.stderr
    assert json.loads((tmp_path / "word").read_text())["reason"] == "DestinationInvalid"


@contextmanager
def environment(store: Server, prefix: str, seconds: float) -> Iterator[dict[str, str]]:
    order = Order(prefix=prefix, endpoint=store.url, encryption=Encryption(type="None"), retention_seconds=seconds)
    yield {
        **os.environ,
        ENV_ORDER: order.dumps(),
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def test_a_part_that_dies_takes_the_worker_with_it_and_all_goes_on(
    store: Server, start: Callable[..., Sidecar], tmp_path: Path
) -> None:
    prefix = f"{PREFIX}-broken"
    (tmp_path / "spool").mkdir()
    broken = tmp_path / "spool" / "2026-01-01~r~p-1.jsonl.gz.body"
    broken.write_bytes(b"its note is missing")
    sidecar = start(prefix)
    time.sleep(1)
    broken.unlink(missing_ok=True)
    end = time.monotonic() + PATIENCE
    while not records(store, prefix) and time.monotonic() < end:
        sidecar.offer("It gets there after all.")
        time.sleep(0.5)
    assert records(store, prefix)[0]["text"] == "It gets there after all."
    assert "a part of the capturing process died" in sidecar.end()
