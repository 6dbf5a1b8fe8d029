"""An API server on a port of this machine, with the few endpoints that the command uses, so that the real client is tried."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Object = dict[str, Any]
GROUP = "/apis/tapchanger.dev/v1alpha1"


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    query: dict[str, list[str]]
    content: str
    body: Any


@dataclass
class FakeApiServer:
    """Objects by (plural, namespace, name). `operator` is called with an object after each patch and gives its next state.

    `refused` holds (method, plural) that are answered with 403. `watches` are the events that one watch after the other
    sends before it ends; when they are used up, `exhausted` is called.
    """

    url: str = ""
    objects: dict[tuple[str, str, str], Object] = field(default_factory=dict)
    operator: Callable[[Object], Object] = lambda item: item
    user: str | None = "anna@example.org"
    installed: bool = True
    refused: set[tuple[str, str]] = field(default_factory=set)
    status: int | None = None
    watches: list[list[Object]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    def put(self, *items: Object) -> None:
        """Stores objects."""
        for item in items:
            plural = {"TransformerDeployment": "transformerdeployments", "EngineBuild": "enginebuilds"}[item["kind"]]
            self.objects[plural, item["metadata"]["namespace"], item["metadata"]["name"]] = item

    def kubeconfig(self, folder: Path) -> Path:
        """A kubeconfig with two contexts of this server: `here` (namespace team-a, the current one) and `other`."""
        clusters = [{"name": "fake", "cluster": {"server": self.url}}]
        contexts = [
            {"name": "here", "context": {"cluster": "fake", "user": "anna", "namespace": "team-a"}},
            {"name": "other", "context": {"cluster": "fake", "user": "anna", "namespace": "team-b"}},
        ]
        users = [{"name": "anna", "user": {"token": "secret"}}]
        known = {"apiVersion": "v1", "kind": "Config", "current-context": "here", "preferences": {}}
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump({**known, "clusters": clusters, "contexts": contexts, "users": users}))
        return path

    def patches(self) -> list[Asked]:
        """The patches that came."""
        return [asked for asked in self.asked if asked.method == "PATCH"]

    def answer(self, asked: Asked) -> tuple[int, Object | str]:
        """(status, body) for a request."""
        if self.status:
            return self.status, _failure(self.status, "it is broken")
        if asked.path == "/apis/authentication.k8s.io/v1/selfsubjectreviews":
            if self.user is None:
                return 403, _failure(403, "not allowed")
            return 201, {"kind": "SelfSubjectReview", "status": {"userInfo": {"username": self.user}}}
        if asked.path == "/api/v1/namespaces":
            return 200, {"items": [{"metadata": {"name": name}} for name in ("default", "team-a", "team-b")]}
        parts = asked.path.removeprefix(GROUP).strip("/").split("/")
        namespace = parts[1] if parts[0] == "namespaces" else None
        plural, *name = parts[2:] if namespace else parts
        if not asked.path.startswith(GROUP) or not self.installed:
            return 404, "404 page not found\n"
        if (asked.method, plural) in self.refused:
            return 403, _failure(403, f'User "{self.user}" cannot do that to resource "{plural}"')
        if not name:
            items = [item for key, item in self.objects.items() if key[0] == plural and namespace in (None, key[1])]
            return 200, {"metadata": {"resourceVersion": "100"}, "items": items}
        key = (plural, namespace or "", name[0])
        if key not in self.objects:
            return 404, {
                **_failure(404, f'{plural} "{name[0]}" not found'),
                "details": {"name": name[0], "kind": plural},
            }
        if asked.method == "PATCH":
            self.objects[key] = self.operator(_merged(self.objects[key], asked.body))
        return 200, self.objects[key]


def _merged(item: Object, patch: Object) -> Object:
    """A merge patch of annotations."""
    given = {**item["metadata"].get("annotations", {}), **patch["metadata"]["annotations"]}
    kept = {name: value for name, value in given.items() if value is not None}
    return {**item, "metadata": {**item["metadata"], "annotations": kept}}


def _failure(code: int, message: str) -> Object:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}


class _Handler(BaseHTTPRequestHandler):
    fake: FakeApiServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(text) if text else None
        asked = Asked(self.command, parts.path, parse_qs(parts.query), self.headers.get("Content-Type", ""), body)
        self.fake.asked.append(asked)
        if asked.query.get("watch") == ["True"] or asked.query.get("watch") == ["true"]:
            self._stream(self.fake.watches.pop(0) if self.fake.watches else None)
            return
        status, answer = self.fake.answer(asked)
        data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, events: list[Object] | None) -> None:
        """The events of a watch. Where the test has no more, the API server forbids it, which ends the following."""
        data = b"".join(json.dumps(event).encode() + b"\n" for event in events or [])
        if events is None:
            data = json.dumps(_failure(403, "no more events")).encode()
        self.send_response(403 if events is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PATCH = do_POST = _handle  # noqa: N815


@contextmanager
def serving() -> Iterator[FakeApiServer]:
    """A server that listens until the block ends."""
    fake = FakeApiServer()
    handler = type("Handler", (_Handler,), {"fake": fake})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
