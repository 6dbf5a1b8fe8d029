"""Command line: without a word the sidecar, which starts its worker again when that dies; `worker`; `retain`, the Job.

A container that ends makes its pod unready, and so would take requests from the model for the sake of capture. So the container's
own process does nothing that could fail, and the worker's memory has a limit of its own, below the container's.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from tapchanger_serving.build import log
from tapchanger_serving.build.failures import StepError
from tapchanger_serving.build.redaction import redacted
from tapchanger_serving.contract import capture
from tapchanger_serving.contract.messages import StepFailure
from tapchanger_serving.contract.names import ENV_TERMINATION_LOG, EXIT_USER_ERROR, TERMINATION_LOG

MEMORY_MIB = 640
ENV_MEMORY = "TAPCHANGER_CAPTURE_MEMORY_MIB"
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_SETTLED_SECONDS = 300.0


def supervise(command: list[str]) -> int:
    """Runs `command` again and again, until this process is told to end; its last exit code is then this one's."""
    stopping = threading.Event()
    child: list[subprocess.Popen[bytes]] = []

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()
        for process in child:
            process.terminate()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    pause = _FIRST_PAUSE
    while not stopping.is_set():
        started = time.monotonic()
        child[:] = [subprocess.Popen(command)]
        if stopping.is_set():
            child[0].terminate()
        code = child[0].wait()
        if stopping.is_set():
            return code
        if time.monotonic() - started > _SETTLED_SECONDS:
            pause = _FIRST_PAUSE
        log.warning("the capturing process died, killed for its memory perhaps; it starts again", code=code)
        stopping.wait(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    return 0


def work(environ: Mapping[str, str] = os.environ) -> int:
    """The sidecar's worker, until SIGTERM. Settings come from :data:`tapchanger_serving.contract.capture.ENV_ORDER`."""
    from tapchanger_serving.capture.destination import opened
    from tapchanger_serving.capture.intake import Intake
    from tapchanger_serving.capture.pack import sealing
    from tapchanger_serving.capture.redact import Redactor
    from tapchanger_serving.capture.spool import Spool
    from tapchanger_serving.capture.state import State, serve
    from tapchanger_serving.capture.worker import LAST_SECONDS, Deliverer, Recorder

    most = int(environ.get(ENV_MEMORY, MEMORY_MIB)) << 20
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    order = capture.Order.model_validate_json(environ[capture.ENV_ORDER])
    threading.excepthook = _end
    stopping, ended = threading.Event(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    state = State()
    http = serve(state, int(environ.get("TAPCHANGER_CAPTURE_PORT", capture.METRICS_PORT)))
    spool = Spool(Path(environ.get("TAPCHANGER_CAPTURE_SPOOL", capture.SPOOL_DIR)))
    deliverer = Deliverer(lambda: opened(order), spool, state)
    sender = threading.Thread(target=deliverer.run, args=(ended,), name="deliver", daemon=True)
    try:
        seal = sealing(order.encryption)
    except ValueError as error:
        state.trouble(str(error))
        log.warning("nothing is captured", error=str(error))
        stopping.wait()
        return 0
    redactor = Redactor(order.redaction)
    recorder = Recorder(order, environ.get(capture.ENV_POD, "pod"), redactor, seal, spool, state)
    with Intake(Path(environ.get("TAPCHANGER_CAPTURE_SOCKET", capture.SOCKET)), state) as intake:
        sender.start()
        log.info("capturing", revision=order.revision, encryption=order.encryption.type)
        recorder.run(intake, stopping)
    until = time.monotonic() + LAST_SECONDS
    while spool.size() and time.monotonic() < until:
        time.sleep(0.1)
    ended.set()
    http.shutdown()
    log.info("ended", **state.told().model_dump(include={"captured", "stored", "waiting"}))
    return 0


def _end(failed: threading.ExceptHookArgs) -> None:
    """A process without one of its threads would look alive and store nothing: it starts again. Messages could quote a text."""
    log.warning("a part of the capturing process died; it starts again", error=failed.exc_type.__name__)
    os._exit(1)


def retain(environ: Mapping[str, str] = os.environ) -> int:
    """The Job's only step; its failure is told as other steps tell theirs."""
    from tapchanger_serving.capture.destination import opened
    from tapchanger_serving.capture.retain import retain as delete_old

    order = capture.Order.model_validate_json(environ[capture.ENV_ORDER])
    try:
        delete_old(opened(order), order.retention_seconds)
    except StepError as error:
        _say(error.failure, Path(environ.get(ENV_TERMINATION_LOG, TERMINATION_LOG)))
        return EXIT_USER_ERROR
    return 0


def _say(failure: StepFailure, file: Path) -> None:
    log.warning("captured texts could not be deleted", **failure.model_dump(exclude_none=True))
    file.write_text(redacted(failure.dumps()))


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    match arguments:
        case []:
            return supervise([sys.executable, "-m", "tapchanger_serving.capture", "worker"])
        case ["worker"]:
            return work()
        case ["retain"]:
            return retain()
        case _:
            print("usage: python -m tapchanger_serving.capture [worker | retain]", file=sys.stderr)  # noqa: T201
            return 2


if __name__ == "__main__":
    os.environ.setdefault("REGEX_TIMEOUT_SECONDS", "2")
    sys.exit(main(sys.argv[1:]))
