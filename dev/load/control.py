"""Starts and stops the sender's process, and reads what it notes."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, NoReturn

from dev.load.plan import Plan
from dev.load.records import Record, Records

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0
SPARE_SECONDS = 15.0
"""What the process may need beyond the plan's own times, on a busy machine."""


class LoadError(RuntimeError):
    """The sender's process failed; the text is its own."""


class Load:
    """A plan in a process of its own: `with Load(plan) as load: …`, or :meth:`start` and :meth:`stop`.

    The process also ends when this one does, at the plan's end at the latest.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._process: subprocess.Popen[str] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._final: Records | None = None

    def __enter__(self) -> Load:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, pause: Callable[[float], None] = time.sleep) -> None:
        """Returns when the sender is about to send its first request. Raises LoadError, RuntimeError where it runs."""
        if self._process:
            raise RuntimeError("this load has been started already")
        self._folder = tempfile.TemporaryDirectory(prefix="load-")
        with self._path("records").open("w") as out, self._path("errors").open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dev.load", "--plan", "-"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=errors,
                text=True,
            )
        with contextlib.suppress(
            BrokenPipeError
        ):  # a process that is gone already is told of below, with its own words
            _pipe(self._process).write(self._plan.dumps() + "\n")
            _pipe(self._process).flush()
        ends = time.monotonic() + START_SECONDS
        while not self._path("records").read_text():
            if self._process.poll() is not None or time.monotonic() > ends:
                self._give_up()
            pause(0.02)

    def records(self) -> Records:
        """The requests that have ended so far."""
        if self._final is not None:
            return self._final
        lines = self._path("records").read_text().split("\n")
        return Records.of(Record.parse(line) for line in lines[1:-1])

    def wait(self) -> Records:
        """All records, once the plan has come to its end. Raises LoadError."""
        return self._collect(self._plan.seconds + self._plan.patience + SPARE_SECONDS)

    def stop(self) -> Records:
        """Sends no more, waits for the answers that are still to come, and returns all records. Raises LoadError."""
        if self._process and self._final is None:
            self._close_pipe()
        return self._collect(self._plan.patience + SPARE_SECONDS)

    def _collect(self, seconds: float) -> Records:
        if self._final is None:
            process = self._running()
            try:
                if process.wait(seconds) != 0:
                    self._give_up()
            except subprocess.TimeoutExpired:
                self._give_up()
            self._final = self.records()
            self._end()
        return self._final

    def _give_up(self) -> NoReturn:
        process = self._running()
        process.kill()
        process.wait()
        said = self._path("errors").read_text().strip()
        self._final = Records(())
        self._end()
        raise LoadError(f"the load's process failed: {said or 'it took too long'}")

    def _close_pipe(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # what could not be written went to a process that is gone
            _pipe(self._running()).close()

    def _end(self) -> None:
        self._close_pipe()
        if self._folder is not None:
            self._folder.cleanup()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RuntimeError("this load has not been started")
        return self._process

    def _path(self, name: str) -> Path:
        if self._folder is None:
            raise RuntimeError("this load has not been started")
        return Path(self._folder.name) / name


def _pipe(process: subprocess.Popen[str]) -> IO[str]:
    if process.stdin is None:
        raise RuntimeError("the load's process has no standard input")
    return process.stdin
