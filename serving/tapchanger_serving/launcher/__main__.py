"""`tritonserver` as the images have it on their path: the same arguments, signals and exit codes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from tapchanger_serving.backends import log
from tapchanger_serving.launcher.arguments import redirect_traces
from tapchanger_serving.launcher.processes import stubs
from tapchanger_serving.launcher.relay import Relay

SERVER = "/opt/tritonserver/bin/tritonserver"
LOOK_SECONDS = 1.0
"""How often the models' processes are looked at."""
KILL_SECONDS = 3.0
"""How long a server that lost a process gets to end; it would wait for that process in vain."""
FLUSH_SECONDS = 2.0


def main(arguments: Sequence[str] | None = None, server: str = SERVER) -> int:
    """Runs tritonserver until it ends; returns its exit code, or 1 when one of its models' processes died."""
    relays: list[Relay] = []

    def relay(target: str) -> str:
        relays.append(Relay(target))
        relays[-1].start()
        return f"http://127.0.0.1:{relays[-1].port}/v1/traces"

    given = redirect_traces(sys.argv[1:] if arguments is None else arguments, relay)
    child = subprocess.Popen([server, *given])
    code = watch(child, lambda: stubs(child.pid))
    for started in relays:
        started.stop(FLUSH_SECONDS)
    return code


def watch(child: subprocess.Popen[bytes], living: Callable[[], frozenset[int]]) -> int:
    """Passes signals on and waits; `living` says which of the server's model processes live."""
    stopping = False

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    seen: frozenset[int] = frozenset()
    while True:
        try:
            code = child.wait(LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            now = living()
            if not stopping and seen - now:
                return _give_up(child, len(seen - now))
            seen = now
        else:
            return code if code >= 0 else 128 - code


def _give_up(child: subprocess.Popen[bytes], lost: int) -> int:
    log.write("error", "the process of a model died, killed for its memory perhaps; the server starts again", lost=lost)
    child.terminate()
    try:
        child.wait(KILL_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    return 1


if __name__ == "__main__":
    sys.exit(main())
