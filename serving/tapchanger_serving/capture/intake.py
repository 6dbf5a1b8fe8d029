"""Takes texts from the server's socket into a bounded line, as fast as they come: the server never waits for redaction."""

from __future__ import annotations

import json
import queue
import socket
import threading
from pathlib import Path
from typing import Any

from tapchanger_serving.capture.state import State

_LARGEST = 1 << 20
_WAITING = 512
_LOOK_SECONDS = 0.5


class Intake:
    """Listens on the datagram socket `path`. Use it as a context manager."""

    def __init__(self, path: Path, state: State) -> None:
        self._path = path
        self._state = state
        self._line: queue.Queue[dict[str, Any]] = queue.Queue(_WAITING)
        self._stopping = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._thread = threading.Thread(target=self._listen, name="intake", daemon=True)

    def __enter__(self) -> Intake:
        """Begins to listen. A socket that a killed process left is replaced."""
        self._path.unlink(missing_ok=True)
        self._socket.bind(str(self._path))
        self._path.chmod(0o600)
        self._socket.settimeout(_LOOK_SECONDS)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def next(self, seconds: float) -> dict[str, Any] | None:
        """The oldest text that waits; None where none comes within `seconds`."""
        try:
            return self._line.get(timeout=seconds) if seconds > 0 else self._line.get_nowait()
        except queue.Empty:
            return None

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                self._take(self._socket.recv(_LARGEST))
            except TimeoutError:
                continue

    def _take(self, datagram: bytes) -> None:
        try:
            item = json.loads(datagram)
            for reason, count in item.pop("lost", {}).items():
                self._state.dropped(str(reason), int(count))
        except (ValueError, AttributeError, TypeError):
            self._state.dropped("malformed")
            return
        if "text" not in item:
            return
        try:
            self._line.put_nowait(item)
        except queue.Full:
            self._state.dropped("sidecarFull")
