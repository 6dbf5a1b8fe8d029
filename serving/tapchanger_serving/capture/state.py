"""What the sidecar has done, for Prometheus and for the operator. Numbers and sentences about the store, never a text."""

from __future__ import annotations

import threading
from collections import Counter as Counts
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from tapchanger_serving.contract.capture import METRICS_PORT, TELL_PATH, Told


class State:
    """Counts since the process started. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told = Told()
        self._dropped: Counts[str] = Counts()
        self.registry = CollectorRegistry()
        self._captured = Counter("tapchanger_capture_texts", "Texts redacted and packed.", registry=self.registry)
        self._lost = Counter(
            "tapchanger_capture_dropped", "Texts sampled and not kept.", ["reason"], registry=self.registry
        )
        self._redactions = Counter(
            "tapchanger_capture_redactions", "Places replaced in captured texts.", ["kind"], registry=self.registry
        )
        self._stored = Counter("tapchanger_capture_objects", "Objects written to the store.", registry=self.registry)
        self._written = Gauge(
            "tapchanger_capture_last_write_timestamp_seconds", "When the last was written.", registry=self.registry
        )
        self._waiting = Gauge("tapchanger_capture_waiting_bytes", "Packed and not yet written.", registry=self.registry)
        self._troubled = Gauge("tapchanger_capture_trouble", "1 while the store takes nothing.", registry=self.registry)

    def captured(self, redactions: Mapping[str, int]) -> None:
        """One text was kept."""
        with self._lock:
            self._told = self._told.model_copy(update={"captured": self._told.captured + 1})
        self._captured.inc()
        for kind, count in redactions.items():
            self._redactions.labels(kind).inc(count)

    def dropped(self, reason: str, count: int = 1) -> None:
        """Texts were not kept."""
        with self._lock:
            self._dropped[reason] += count
        self._lost.labels(reason).inc(count)

    def stored(self, at: float) -> None:
        """One object is in the store, at `at` in Unix seconds."""
        with self._lock:
            update = {"stored": self._told.stored + 1, "last_written": at, "trouble": ""}
            self._told = self._told.model_copy(update=update)
        self._stored.inc()
        self._written.set(at)
        self._troubled.set(0)

    def waiting(self, size: int) -> None:
        """So many bytes are packed and not yet in the store."""
        with self._lock:
            self._told = self._told.model_copy(update={"waiting": size})
        self._waiting.set(size)

    def trouble(self, why: str) -> None:
        """Why nothing can be stored, for the operator and so for the deployment's status."""
        with self._lock:
            self._told = self._told.model_copy(update={"trouble": why[:500]})
        self._troubled.set(1)

    def told(self) -> Told:
        """All of it."""
        with self._lock:
            return self._told.model_copy(update={"dropped": dict(self._dropped)})


def serve(state: State, port: int = METRICS_PORT) -> ThreadingHTTPServer:
    """Answers `/metrics`, `/v1/capture` and `/healthz` from a thread of its own. Raises OSError where the port is taken."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, "text/plain; version=0.0.4", generate_latest(state.registry))
            elif self.path == TELL_PATH:
                self._answer(200, "application/json", state.told().dumps().encode())
            elif self.path == "/healthz":
                self._answer(200, "text/plain", b"ok\n")
            else:
                self._answer(404, "text/plain", f"ask for /metrics, {TELL_PATH} or /healthz\n".encode())

        def _answer(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing is logged per request."""

    server = ThreadingHTTPServer(("", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server
