"""The load leaves on time, hides no failure, and comes back with what users felt."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from dev.load import Load, Plan, Record, Records
from dev.load.clients import HttpClient
from dev.load.control import LoadError
from dev.load.sender import send
from tests.support.patience import PATIENCE

MARK = "\ue000"
TEXTS = tuple(f"text {number}" for number in range(10))
REVISION = "x-tapchanger-revision"


class Model(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # generated without types
    """Fails on marked texts; answers others in the name of revision `r1`."""

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name is the protocol's
        user = dict(context.invocation_metadata()).get("x-user-id")
        context.send_initial_metadata(((REVISION, user or "r1"),))
        if MARK.encode() in request.raw_input_contents[0]:
            context.abort(grpc.StatusCode.INTERNAL, "no such character")
        return service_pb2.ModelInferResponse(model_name=request.model_name)

    def ModelStreamInfer(self, requests: Any, context: Any) -> Any:  # noqa: N802 - the name is the protocol's
        context.send_initial_metadata(((REVISION, "r1"),))
        for request in requests:
            said = "no such character" if MARK.encode() in request.raw_input_contents[0] else ""
            yield service_pb2.ModelStreamInferResponse(error_message=said)


class Handler(BaseHTTPRequestHandler):
    """The same over HTTP; the first request of each connection is noted."""

    protocol_version = "HTTP/1.1"
    connections: set[tuple[str, int]]

    def do_POST(self) -> None:
        self.connections.add(self.client_address)
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = body["inputs"][0]["data"][0]
        self.send_response(500 if MARK in text else 200)
        self.send_header(REVISION, self.headers.get("x-user-id", "r2"))
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
        """Says nothing."""


class Server(ThreadingHTTPServer):
    """Takes as many new connections at once as an open loop may bring."""

    request_queue_size = 256


@pytest.fixture
def grpc_address() -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Model(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def http_address() -> Iterator[str]:
    Handler.connections = set()
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def plan(**changes: Any) -> Plan:
    given = {"address": "127.0.0.1:1", "protocol": "grpc", "model": "m", "texts": TEXTS, "rate": 200.0, "limit": 40}
    return Plan(**{**given, **changes})


def record(sent: float = 0.0, seconds: float = 0.1, revision: str | None = "a", code: str = "OK") -> Record:
    return Record(sent, sent + seconds, revision, code, 0, sent)


@pytest.mark.parametrize(
    ("protocol", "failure", "revision"),
    [("grpc", "INTERNAL", "r1"), ("grpc-stream", "stream/error", "r1"), ("http", "http/500", "r2")],
)
def test_every_request_is_noted_with_its_revision_and_failures_are_not_retried(
    protocol: str, failure: str, revision: str, request: pytest.FixtureRequest
) -> None:
    address = request.getfixturevalue(f"{protocol.removesuffix('-stream')}_address")
    with Load(plan(address=address, protocol=protocol, mark=MARK, marked=0.1)) as load:
        records = load.wait()
    assert len(records) == 40
    assert [each.code for each in records.failures()] == [failure] * 4
    assert {each.text for each in records.failures()} == {9}
    assert records.revisions() == [revision]
    assert all(each.due <= each.sent < each.ended for each in records)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_each_text_may_have_a_user_of_its_own(protocol: str, request: pytest.FixtureRequest) -> None:
    address = request.getfixturevalue(f"{protocol}_address")
    plan = Plan(address, protocol, "m", TEXTS[:3], 200.0, limit=9, user_header="x-user-id")  # type: ignore[arg-type]
    with Load(plan) as load:
        records = load.wait()
    assert len(records) == 9
    assert all(record.revision == f"user-{record.text}" for record in records)


async def test_an_idle_connection_is_used_again(http_address: str) -> None:
    async with HttpClient(plan(address=http_address, protocol="http", connections=1)) as client:
        assert [await client.send(text) for text in range(5)] == [("OK", "r2")] * 5
    assert len(Handler.connections) == 1


def test_stopping_waits_for_the_answers_and_returns_all_of_them(grpc_address: str) -> None:
    load = Load(plan(address=grpc_address, limit=None, seconds=300.0, rate=50.0))
    load.start()
    records = load.stop()
    assert len(records) < 50 * 300
    assert load.records() == records == load.stop()


def test_a_server_that_is_not_there_is_a_failure_of_each_request() -> None:
    with Load(plan(limit=3)) as load:
        assert [each.code for each in load.wait()] == ["UNAVAILABLE"] * 3
    with Load(plan(limit=3, protocol="http")) as load:
        assert [each.code for each in load.wait()] == ["http/ConnectError"] * 3


def test_a_process_that_dies_is_told(grpc_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(LoadError, match="process failed"):
        Load(plan(address=grpc_address)).start()


def test_the_command_line_writes_records_and_a_summary(grpc_address: str, tmp_path: Path) -> None:
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps(TEXTS))
    command = [sys.executable, "-m", "dev.load", "--address", grpc_address, "--model", "m", "--texts", str(texts)]
    root = Path(__file__).parents[3]
    ran = subprocess.run(
        [*command, "--rate", "200", "--limit", "5"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert [Record.parse(line).code for line in ran.stdout.splitlines()[1:]] == ["OK"] * 5
    assert json.loads(ran.stderr)["revisions"] == {"r1": 5}


class Stuck:
    """A client that answers nothing until it is told to."""

    def __init__(self, expected: int) -> None:
        self.all_sent = asyncio.Event()
        self.answer = asyncio.Event()
        self._left = expected

    async def __aenter__(self) -> Stuck:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def send(self, text: int) -> tuple[str, str | None]:
        self._left -= 1
        if self._left == 0:
            self.all_sent.set()
        await self.answer.wait()
        return "OK", str(text)


def with_stuck(check: Callable[[Stuck, asyncio.Event, list[Record]], Awaitable[None]], **changes: Any) -> list[Record]:
    """Runs a load on a stuck client beside `check`; what it noted."""

    async def run() -> list[Record]:
        noted: list[Record] = []
        asked = plan(**changes)
        client, stop = Stuck(asked.limit or 1), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(send(asked, client, stop, noted.append))
            await check(client, stop, noted)
        return noted

    return asyncio.run(run())


def test_requests_leave_on_time_though_earlier_ones_are_not_answered() -> None:
    async def check(client: Stuck, _: asyncio.Event, noted: list[Record]) -> None:
        await asyncio.wait_for(client.all_sent.wait(), PATIENCE)
        assert noted == []
        client.answer.set()

    assert len(with_stuck(check, limit=30)) == 30


def test_a_stopped_load_sends_no_more_and_keeps_waiting_for_answers() -> None:
    async def check(client: Stuck, stop: asyncio.Event, noted: list[Record]) -> None:
        await asyncio.wait_for(client.all_sent.wait(), PATIENCE)
        stop.set()
        client.answer.set()

    # The second request would be due after half an hour.
    assert len(with_stuck(check, limit=None, rate=1 / 1800, seconds=3600.0)) == 1


def test_even_and_random_arrivals_have_the_rate() -> None:
    even = list(plan(rate=10.0, seconds=5.0, limit=None).due())
    assert even == [number / 10 for number in range(50)]
    random = list(plan(rate=10.0, seconds=1000.0, limit=None, arrivals="poisson").due())
    assert 9_600 < len(random) < 10_400
    assert random == sorted(random)
    gaps = [after - before for before, after in itertools.pairwise(random)]
    assert max(gaps) > 0.5


@pytest.mark.parametrize("part", [0.0, 0.1, 0.29, 0.5, 1.0])
def test_the_mark_is_on_the_part_asked_for(part: float) -> None:
    texts = plan(texts=tuple("abcdefghij" * 10), mark=MARK, marked=part).sent_texts()
    assert sum(text.endswith(MARK) for text in texts) == round(part * 100)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"texts": ()}, "texts"),
        ({"rate": 0.0}, "rate"),
        ({"seconds": 1e6}, "seconds"),
        ({"limit": 0}, "limit"),
        ({"connections": 0}, "connections"),
        ({"marked": 0.1}, "mark"),
        ({"address": "http://127.0.0.1:80"}, "address"),
        ({"address": "192.0.2.1:8001"}, "address"),
        ({"address": "[2001:db8::1]:8001"}, "address"),
    ],
)
def test_a_senseless_plan_is_refused_by_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        plan(**changes)


def test_remote_addresses_are_allowed_when_asked_for() -> None:
    assert plan(address="192.0.2.1:8001", allow_remote=True).endpoint == ("192.0.2.1", 8001)


def test_a_plan_travels_as_json() -> None:
    sent = plan(mark=MARK, marked=0.5)
    assert Plan.loads(sent.dumps()) == sent


def test_records_answer_what_tests_ask() -> None:
    records = Records.of(
        [
            record(sent=3.0, revision="b", code="INTERNAL", seconds=0.5),
            record(sent=1.0),
            record(sent=2.0, revision="b", seconds=0.3),
            record(sent=4.0, seconds=0.2),
            record(sent=5.0, revision=None, code="UNAVAILABLE"),
        ]
    )
    assert [each.sent for each in records] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert records.revisions() == ["a", "b"]
    assert records.share("b") == pytest.approx(0.4)
    assert records.share("b", 1.5, 3.5) == 1.0
    assert records.first_bad("b") == 3.5
    assert records.first_bad("b", slower_than=0.25) == 2.3
    assert records.first_bad("a") is None
    assert records.last_answer("a") == 4.2
    assert records.last_answer("c") is None
    assert records.quantile(0.5) == pytest.approx(0.2)
    assert records.quantile(1.0) == pytest.approx(0.5)
    assert records.summary()["failed"] == {"INTERNAL": 1, "UNAVAILABLE": 1}
    with pytest.raises(ValueError, match="no request"):
        records.share("a", 10.0)
    with pytest.raises(ValueError, match="no request"):
        records[:0].quantile(0.5)
