"""Runs the builder's steps as processes, gives their lines as they come, and reads their last words."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from pydantic import ValidationError

from tapchanger_cli.errors import CliError
from tapchanger_cli.words import printable
from tapchanger_serving.contract import names
from tapchanger_serving.contract.messages import StepFailure

Line = dict[str, Any]
"""One event of the builder's log: `level`, `msg`, and the event's own fields."""

_OPTIONS: Final = {
    "spec.model.uri": "MODEL",
    "spec.model.task": "--task",
    "spec.engine.distill.dataset": "--distill",
    "spec.engine.distill.layers": "--distill-layers",
    "spec.engine.distill.learningRate": "--distill-learning-rate",
    "spec.engine.distill": "--distill",
    "spec.engine.gates.evaluation.dataset": "--data",
    "spec.engine.gates": "--gates",
    "spec.engine": "--runtime, --precision",
}
"""Where a field of the spec is set on the command line; the longest that a failure's field begins with."""
_PATIENCE_SECONDS: Final = 10.0
_TAIL: Final = 2000


class StepFailedError(CliError):
    """A step broke."""

    def __init__(self, failure: StepFailure, detail: str = "") -> None:
        field = _option(failure.field)
        message = f"{failure.reason}: {failure.message}" + (f"\n{detail.rstrip()}" if detail else "")
        super().__init__(message, ": ".join(part for part in (field, failure.remedy or "") if part))


class StepRefusedError(StepFailedError):
    """The step can't succeed until the user changes something."""

    exit_code = names.EXIT_USER_ERROR


@dataclass(frozen=True)
class Steps:
    """Where the steps of one build work."""

    store: Path
    work: Path
    hear: Callable[[str, Line], None]

    @property
    def unchanged(self) -> bool:
        """Whether `fetch` found the finished build in the store."""
        return (self.work / names.UNCHANGED_MARKER).exists()

    def run(self, step: str, *arguments: str, request: str | None = None) -> str:
        """Runs one step; returns its last word. Raises :class:`StepFailedError`."""
        word = self.work / "last-word"
        word.unlink(missing_ok=True)
        places = {names.ENV_STORE_DIR: self.store, names.ENV_WORK_DIR: self.work, names.ENV_TERMINATION_LOG: word}
        environment = os.environ | {name: str(path) for name, path in places.items()}
        if request is not None:
            environment[names.ENV_BUILD_REQUEST] = request
        command = [sys.executable, "-m", "tapchanger_serving.build", step, *arguments]
        trace = ""
        with tempfile.TemporaryFile("w+", dir=self.work, encoding="utf-8", errors="replace") as errors:
            with _started(command, environment, errors) as process:
                for line in _lines(process):
                    trace = str(line.get("traceback", trace))
                    self.hear(step, line)
                code = process.wait()
            errors.seek(0)
            trace = trace or errors.read()
        said = word.read_text(encoding="utf-8") if word.is_file() else ""
        if code != 0:
            raise _failed(step, code, said, trace)
        return said


@contextlib.contextmanager
def _started(
    command: Sequence[str], environment: Mapping[str, str], errors: IO[str]
) -> Iterator[subprocess.Popen[str]]:
    """A process in a group of its own, so that the terminal's Ctrl-C reaches this program alone, which then ends the group."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        encoding="utf-8",
        errors="replace",
        process_group=0,
    )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """Ends what is left of the process's group: asked first, killed after ten seconds."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE_SECONDS)
    _signal(process, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _lines(process: subprocess.Popen[str]) -> Iterator[Line]:
    """The process's lines; one that is no JSON, as a library may print, is a message of its own."""
    for text in process.stdout or ():
        try:
            line = json.loads(text)
        except ValueError:
            line = {"level": "info", "msg": text.rstrip()}
        if isinstance(line, dict):
            yield line


def _failed(step: str, code: int, said: str, trace: str) -> StepFailedError:
    if code < 0:
        ended = f"step {step} was ended by {signal.Signals(-code).name}"
        remedy = (
            "SIGKILL often means that memory ran out: close other programs, or lower --max-batch-size and --max-tokens"
        )
        return StepFailedError(StepFailure(reason="BuildCrashed", message=ended, remedy=remedy))
    try:
        failure = StepFailure.model_validate_json(said)
    except ValidationError:
        failure = StepFailure(reason="BuildCrashed", message=f"step {step} ended with exit code {code}")
    if code == names.EXIT_USER_ERROR:
        return StepRefusedError(failure)
    return StepFailedError(failure, str(printable(trace[-_TAIL:])))


def _option(field: str | None) -> str:
    """The option behind a field of the spec, or the field itself."""
    best = max((known for known in _OPTIONS if (field or "").startswith(known)), key=len, default=None)
    return _OPTIONS[best] if best else field or ""
