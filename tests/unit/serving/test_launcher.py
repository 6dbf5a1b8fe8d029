"""The server outlives its trace receiver, and a container whose model died does not go on as if it were ready."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tapchanger_serving.launcher.__main__ import watch
from tapchanger_serving.launcher.arguments import redirect_traces
from tapchanger_serving.launcher.processes import stubs
from tapchanger_serving.launcher.relay import Backlog, Batch, Relay

TRACES = "http://observer:4318/v1/traces"


def test_only_the_receivers_address_is_redirected() -> None:
    given = [
        "--http-port=8000",
        f"--trace-config=opentelemetry,url={TRACES}",
        "--trace-config",
        f"opentelemetry,url={TRACES}",
    ]
    given.append("--trace-config=opentelemetry,resource=a=opentelemetry,url=b")
    asked: list[str] = []

    def relay(url: str) -> str:
        asked.append(url)
        return "local"

    changed = redirect_traces(given, relay)
    assert asked == [TRACES, TRACES]
    assert changed[1] == "--trace-config=opentelemetry,url=local"
    assert changed[3] == "opentelemetry,url=local"
    assert [changed[0], changed[2], changed[4]] == [given[0], given[2], given[4]]


def test_without_traces_nothing_is_changed() -> None:
    assert redirect_traces(["--http-port=8000"], pytest.fail) == ["--http-port=8000"]


def test_a_full_backlog_drops_the_oldest() -> None:
    backlog = Backlog(limit=10)
    batches = [Batch(bytes([number]) * 4, "application/json") for number in range(3)]
    for batch in batches:
        backlog.put(batch)
    assert backlog.dropped == 1
    assert backlog.first() is batches[1]
    backlog.remove(batches[0])
    assert backlog.first() is batches[1]
    backlog.remove(batches[1])
    assert backlog.first() is batches[2]


def test_a_batch_too_large_for_the_backlog_is_dropped() -> None:
    backlog = Backlog(limit=3)
    backlog.put(Batch(b"long", "application/json"))
    assert backlog.first(timeout=0) is None


class Receiver:
    """A trace receiver that answers with `status` and keeps what it got."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.status = 200
        self.arrived = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(receiver.status)
                self.end_headers()
                if receiver.status == 200:
                    receiver.got.append(body)
                receiver.arrived.set()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    started = Receiver()
    yield started
    started.server.shutdown()
    started.server.server_close()


def export(relay: Relay, body: bytes) -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{relay.port}/v1/traces", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=5) as response:
        return int(response.status)


def test_what_is_exported_arrives(receiver: Receiver) -> None:
    relay = Relay(f"http://127.0.0.1:{receiver.port}/v1/traces")
    relay.start()
    assert export(relay, b'{"resourceSpans":[]}') == 200
    relay.stop(5)
    assert receiver.got == [b'{"resourceSpans":[]}']


def test_exports_are_accepted_while_the_receiver_is_away_and_delivered_when_it_is_back(
    receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.status = 503
    relay = Relay(f"http://127.0.0.1:{receiver.port}/v1/traces", pause=0.01)
    relay.start()
    assert export(relay, b"one") == export(relay, b"two") == 200
    assert receiver.arrived.wait(5)
    receiver.status = 200
    receiver.arrived.clear()
    assert receiver.arrived.wait(5)
    relay.stop(5)
    assert receiver.got == [b"one", b"two"]
    levels = [json.loads(line)["level"] for line in capsys.readouterr().err.splitlines()]
    assert levels == ["warning", "info"]


def test_a_receiver_that_is_not_there_delays_neither_exports_nor_the_end() -> None:
    relay = Relay("http://127.0.0.1:9/v1/traces", pause=30)
    relay.start()
    assert export(relay, b"lost") == 200
    relay.stop(5)


def test_a_batch_that_the_receiver_refuses_is_not_sent_again(receiver: Receiver) -> None:
    receiver.status = 400
    relay = Relay(f"http://127.0.0.1:{receiver.port}/v1/traces")
    relay.start()
    export(relay, b"bad")
    assert receiver.arrived.wait(5)
    receiver.status = 200
    export(relay, b"good")
    relay.stop(5)
    assert receiver.got == [b"good"]


def process(proc: Path, number: int, name: str, state: str, parent: int) -> None:
    (proc / str(number)).mkdir(parents=True)
    (proc / str(number) / "stat").write_text(f"{number} ({name}) {state} {parent} 1 1 0")


def test_live_model_processes_are_the_servers_children_of_that_name(tmp_path: Path) -> None:
    process(tmp_path, 10, "triton_python_b", "S", parent=7)
    process(tmp_path, 11, "triton_python_b", "Z", parent=7)
    process(tmp_path, 12, "triton_python_b", "S", parent=8)
    process(tmp_path, 13, "triton) S 7 (x", "S", parent=7)
    (tmp_path / "14").mkdir()
    (tmp_path / "meminfo").write_text("")
    assert stubs(7, tmp_path) == {10}


SERVER = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("up", flush=True)
signal.pause()
signal.pause()
"""


def started(code: str) -> subprocess.Popen[bytes]:
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout
    with child.stdout:
        child.stdout.readline()
    return child


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_exit_code_is_the_servers() -> None:
    assert watch(started("raise SystemExit(3)"), frozenset) == 3
    assert watch(started("import os; os.abort()"), frozenset) == 128 + signal.SIGABRT


def test_termination_is_passed_on_and_models_that_end_with_it_are_no_failure() -> None:
    looks = iter([frozenset({1}), frozenset({1})])

    def living() -> frozenset[int]:
        found = next(looks, frozenset())
        if found:
            signal.raise_signal(signal.SIGTERM)
        return found

    assert watch(started(SERVER), living) == 7


def test_a_model_whose_process_died_ends_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    looks = iter([frozenset({1, 2}), frozenset({1})])
    child = started(SERVER)
    assert watch(child, lambda: next(looks)) == 1
    assert child.returncode is not None
    assert json.loads(capsys.readouterr().err)["lost"] == 1
