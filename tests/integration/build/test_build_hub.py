"""`hf://` through the Hub's real client, against a server that speaks the Hub's protocol."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import transformers

from tapchanger_serving.contract.messages import BuildRequest, Inspection
from tests.support.small_builds import Build, small_bert

COMMIT = "c" * 40


class Hub(BaseHTTPRequestHandler):
    """One repository `org/name` at revision `v1`, readable with a token."""

    files: ClassVar[dict[str, bytes]] = {}
    downloads: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def answer(self, *, body: bool) -> None:
        if self.headers.get("Authorization") != "Bearer secret":
            self.reply(401, b"{}", body=body)
        elif self.path.startswith("/api/models/org/name"):
            siblings = [{"rfilename": name} for name in self.files]
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": "0" * 40} for name, data in self.files.items()
            ]
            info = {
                "id": "org/name",
                "sha": COMMIT,
                "siblings": siblings,
                "private": True,
                "tags": [],
                "downloads": 0,
                "likes": 0,
            }
            self.reply(200, json.dumps(tree if "/tree/" in self.path else info).encode(), body=body)
        else:
            name = self.path.split("?")[0].removeprefix(f"/org/name/resolve/{COMMIT}/")
            data = self.files.get(name)
            if body:
                self.downloads.append(name)
            self.reply(404 if data is None else 200, data or b"", body=body)

    def reply(self, code: int, data: bytes, *, body: bool) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Keeps the test's output clean."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    Hub.downloads.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def repository(tmp_path: Path) -> None:
    folder = small_bert(tmp_path / "upload", transformers.BertForSequenceClassification)
    (folder / "pytorch_model.bin").write_bytes(b"never fetched")
    Hub.files = {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.usefixtures("repository")
def test_a_repository_travels_once_and_without_its_pickles(build: Build, endpoint: str) -> None:
    access = {"HF_ENDPOINT": endpoint, "HF_TOKEN": "secret", "HF_HUB_DISABLE_XET": "1"}
    uri = "hf://org/name@v1"
    done = build.step("inspect", "--uri", uri, "--task", "text-classification", **access)
    assert done.returncode == 0, done.stdout
    found = Inspection.model_validate_json(build.last_word())
    assert "model.safetensors" in Hub.downloads
    assert "pytorch_model.bin" not in Hub.downloads
    Hub.downloads.clear()
    request = BuildRequest(name="eb", uri=uri, digest=found.digest, task="text-classification", hardware=found.hardware)
    assert build.step("fetch", request=request, **access).returncode == 0
    assert Hub.downloads == []


@pytest.mark.usefixtures("repository")
def test_a_repository_that_may_not_be_read_is_explained(build: Build, endpoint: str) -> None:
    done = build.step(
        "inspect", "--uri", "hf://org/name@v1", "--task", "text-classification", HF_ENDPOINT=endpoint, HF_TOKEN="wrong"
    )
    assert done.returncode == 42, done.stdout
    assert build.failure().reason == "ModelNotFound"
    assert "HF_TOKEN" in (build.failure().remedy or "")


def test_a_hub_that_does_not_answer_is_explained(build: Build) -> None:
    done = build.step(
        "inspect", "--uri", "hf://org/name@v1", "--task", "text-classification", HF_ENDPOINT="http://127.0.0.1:9"
    )
    assert done.returncode == 42, done.stdout
    assert build.failure().reason == "DownloadFailed"
