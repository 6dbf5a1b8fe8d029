"""`tritonserver` as the images have it on their path: the same arguments, signals and exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from tapchanger_serving.backends import log
from tapchanger_serving.launcher.arguments import translate
from tapchanger_serving.launcher.processes import stubs

SERVER = "/opt/tritonserver/bin/tritonserver"
LOOK_SECONDS = 1.0
"""How often the models' processes are looked at."""
KILL_SECONDS = 3.0
"""How long a server that lost a process gets to end; it would wait for that process in vain."""


def main(arguments: Sequence[str] | None = None, server: str = SERVER) -> int:
    """Runs tritonserver until it ends; returns its exit code, or 1 when one of its models' processes died."""
    launch = translate(sys.argv[1:] if arguments is None else arguments, os.environ)
    child = subprocess.Popen([server, *launch.arguments], env={**os.environ, **launch.environment})
    return watch(child, lambda: stubs(child.pid))


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
