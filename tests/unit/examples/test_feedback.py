"""The example application asks under a trace id of its own and sends the labels that go with it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from examples.feedback import feedback
from tapchanger_serving.contract.feedback import Feedback


class Both(BaseHTTPRequestHandler):
    """A model that finds everything safe, and an observer that refuses the first of what it hears."""

    heard: ClassVar[list[dict[str, Any]]] = []
    traces: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/v1/feedback":
            self.heard.extend(body)
            refused = [{"id": body[0]["id"], "why": "nobody knows it"}]
            self.say(200 if len(body) > 1 else 404, {"counted": len(body) - 1, "duplicates": 0, "refused": refused})
            return
        self.traces.append(self.headers["traceparent"])
        outputs = [{"name": "label", "data": ["safe"]}, {"name": "score", "data": [0.75]}]
        self.say(200, {"outputs": outputs})

    def say(self, status: int, body: dict[str, Any]) -> None:
        self.send_response(status)
        self.send_header("x-tapchanger-revision", "r1")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
        """Says nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    Both.heard.clear()
    Both.traces.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Both)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_each_label_goes_with_the_trace_of_its_request(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.csv").write_text("text,label\na,safe\nb,unsafe\nc,safe\n")
    (tmp_path / "token").write_text("secret\n")
    told = [
        "--url",
        url,
        "--observer",
        url,
        "--name",
        "moderation",
        "--token",
        str(tmp_path / "token"),
        "--slice",
        "source=test",
    ]
    assert feedback.main([*told, str(tmp_path / "texts.csv")]) == 0
    assert "2 of 3 right; 2 labels counted, 1 refused" in capsys.readouterr().out
    found = [Feedback.model_validate(one) for one in Both.heard]
    assert [one.id for one in found] == [trace.split("-")[1] for trace in Both.traces]
    assert [(one.label, one.answered, one.confidence, one.slices) for one in found] == [
        (label, "safe", 0.75, {"source": "test"}) for label in ("safe", "unsafe", "safe")
    ]


def test_what_nobody_knows_is_told_and_what_fails_too(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = feedback.ask(url, "moderation", "a")
    told = feedback.send(url, "secret", [feedback.entry("default", "moderation", answer, "safe")])
    assert told["refused"] == [{"id": answer.trace_id, "why": "nobody knows it"}]
    (tmp_path / "texts.csv").write_text("text,label\na,safe\n")
    away = ["--url", "http://127.0.0.1:9", "--name", "moderation", "--token", "x", str(tmp_path / "texts.csv")]
    assert feedback.main(away) == 1
    assert "nobody answered" in capsys.readouterr().err
