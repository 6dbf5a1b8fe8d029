"""A proxy for TCP that cuts each connection after so many bytes of answers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_CHUNK = 16 << 10


@dataclass
class BreakingProxy:
    """Passes bytes on to `target` (host and port). `cut_after` None cuts nothing. `cuts` counts what was cut."""

    target: tuple[str, int]
    cut_after: int | None
    cuts: int = 0
    port: int = 0
    _threads: list[threading.Thread] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        """Accepts until `listener` is closed."""
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(self.target)
                for source, sink, limit in ((client, server, None), (server, client, self.cut_after)):
                    thread = threading.Thread(target=self._pass, args=(source, sink, limit), daemon=True)
                    thread.start()
                    self._threads.append(thread)

    def _pass(self, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK):
                if limit is not None and passed + len(chunk) > limit:
                    sink.sendall(chunk[: limit - passed])
                    self.cuts += 1
                    break
                sink.sendall(chunk)
                passed += len(chunk)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def join(self) -> None:
        """Waits for the connections that are open."""
        for thread in self._threads:
            thread.join(timeout=5)


@contextmanager
def breaking_proxy(port: int, cut_after: int | None) -> Iterator[BreakingProxy]:
    """A proxy in front of `port` of this machine."""
    proxy = BreakingProxy(("127.0.0.1", port), cut_after)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy.port = listener.getsockname()[1]
        thread = threading.Thread(target=proxy.serve, args=(listener,))
        thread.start()
        try:
            yield proxy
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(timeout=5)
            proxy.join()
