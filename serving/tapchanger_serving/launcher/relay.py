"""Takes traces on a local port at any time, and passes them on when their receiver can be reached."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from tapchanger_serving.backends import log

SEND_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0


@dataclass(frozen=True)
class Batch:
    """The body of one export and its content type."""

    body: bytes
    content_type: str


class Backlog:
    """Batches that wait, at most `limit` bytes of them: the oldest go first when there are more."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._batches: deque[Batch] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self.dropped = 0

    def put(self, batch: Batch) -> None:
        """Adds a batch; never blocks."""
        with self._changed:
            self._batches.append(batch)
            self._size += len(batch.body)
            while self._size > self._limit:
                self._size -= len(self._batches.popleft().body)
                self.dropped += 1
            self._changed.notify()

    def first(self, timeout: float | None = None) -> Batch | None:
        """The oldest batch, which stays; None when there is none for `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._batches, timeout)
            return self._batches[0] if self._batches else None

    def remove(self, batch: Batch) -> None:
        """Takes a batch out that was delivered, if it has not been dropped meanwhile."""
        with self._changed:
            if self._batches and self._batches[0] is batch:
                self._batches.popleft()
                self._size -= len(batch.body)


class Relay:
    """Receives on 127.0.0.1 at `port` and sends to `target`, with growing pauses while that fails."""

    def __init__(self, target: str, *, limit: int = 16 << 20, pause: float = FIRST_PAUSE) -> None:
        self._target = target
        self._backlog = Backlog(limit)
        self._first_pause = self._pause = pause
        self._stopping = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._backlog))
        self._sender = threading.Thread(target=self._send_all, name="trace-sender", daemon=True)

    @property
    def port(self) -> int:
        """The local port."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begins to receive and to send."""
        threading.Thread(target=self._server.serve_forever, name="trace-receiver", daemon=True).start()
        self._sender.start()

    def stop(self, seconds: float) -> None:
        """Sends what waits, for at most `seconds`, and ends."""
        self._stopping.set()
        self._sender.join(seconds)
        self._server.shutdown()
        self._server.server_close()

    def _send_all(self) -> None:
        failing = False
        while True:
            batch = self._backlog.first(timeout=0.2)
            if batch is None:
                if self._stopping.is_set():
                    return
                continue
            problem = _post(self._target, batch)
            if problem is None:
                self._backlog.remove(batch)
                self._pause = self._first_pause
            if failing != (problem is not None):
                failing = problem is not None
                self._tell(problem)
            if failing and self._stopping.wait(self._pause):
                return
            self._pause = min(self._pause * 2, LONGEST_PAUSE) if failing else self._first_pause

    def _tell(self, problem: str | None) -> None:
        if problem is None:
            log.write("info", "traces are delivered again", to=self._target, dropped_batches=self._backlog.dropped)
        else:
            log.write("warning", "traces can't be delivered; the newest are kept", to=self._target, error=problem)


def _post(target: str, batch: Batch) -> str | None:
    """None when the receiver has dealt with the batch, be it by refusing its content; else what went wrong."""
    request = urllib.request.Request(target, batch.body, {"Content-Type": batch.content_type})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=SEND_SECONDS):  # noqa: S310 - the operator's own setting
            return None
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}" if error.code in (429, 502, 503, 504) else None
    except (OSError, ValueError) as error:
        return str(error)


def _handler(backlog: Backlog) -> type[BaseHTTPRequestHandler]:
    class Receiver(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout: ClassVar[float] = 60.0

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            backlog.put(Batch(body, self.headers.get("Content-Type", "application/json")))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
            """One line per export would drown the log."""

    return Receiver
