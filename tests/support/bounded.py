"""Runs a command and measures what it takes, so that a test can hold it to bounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS = 20.0
MEMORY_MIB = 1024.0
_OVERTIME = 300.0
_LAUNCH = """
import json, os, subprocess, sys, threading
figures, overtime, *command = sys.argv[1:]
process = subprocess.Popen(command)
alarm = threading.Timer(float(overtime), process.kill)
alarm.start()
_, status, usage = os.wait4(process.pid, 0)
alarm.cancel()
with open(figures, "w") as stream:
    json.dump([os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss], stream)
"""
"""The peak of a process counts from what its parent had when it was made (getrusage(2)), so that a small one makes it."""


@dataclass(frozen=True)
class Ran:
    """A command that has ended: exit code (negative: the signal), seconds of CPU time, largest resident memory.

    CPU time, because what else the machine does is not the command's doing.
    """

    code: int
    seconds: float
    memory_mib: float
    output: str

    def require_bounds(self, memory_mib: float = MEMORY_MIB) -> None:
        """Fails where the command took more than 20 s of CPU time or more memory than it may."""
        assert self.seconds <= SECONDS, f"{self.seconds:.1f} s\n{self.output}"
        assert self.memory_mib <= memory_mib, f"{self.memory_mib:.0f} MiB\n{self.output}"


def run(arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> Ran:
    """Runs Python with `arguments`, output and figures in the new `folder`. It is killed after five minutes."""
    folder.mkdir(exist_ok=True)
    figures, output = folder / "figures", folder / "output"
    with output.open("wb") as stream:
        subprocess.run(
            [sys.executable, "-S", "-c", _LAUNCH, str(figures), str(_OVERTIME), sys.executable, *arguments],
            env=os.environ | environment, stdout=stream, stderr=subprocess.STDOUT, check=True,
        )  # fmt: skip
    code, seconds, kilobytes = json.loads(figures.read_text())
    return Ran(code, seconds, kilobytes / 1024, output.read_text(encoding="utf-8", errors="replace"))
