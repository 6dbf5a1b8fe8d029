"""Processes of containers end on SIGTERM, tidily, even where the kernel would withhold it from them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tapchanger_serving.ending import EXIT_TERMINATED
from tests.support.patience import PATIENCE

WAITING = """
import sys, time
from pathlib import Path
{first}
try:
    print("ready", flush=True)
    time.sleep(60)
finally:
    Path(sys.argv[1]).write_text("closed")
"""
HANDLED = "from tapchanger_serving.ending import end_when_told; end_when_told()"


def test_sigterm_ends_the_process_and_closes_what_it_opened(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WAITING.format(first=HANDLED), str(tmp_path / "last")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == EXIT_TERMINATED
    assert (tmp_path / "last").read_text() == "closed"


@pytest.mark.parametrize("module", ["tapchanger_serving.build", "tapchanger_serving.repository"])
def test_commands_of_containers_install_it(module: str) -> None:
    script = f"""
import runpy, signal, sys
sys.argv = ["x", "--help"]
try:
    runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
except SystemExit:
    pass
assert callable(signal.getsignal(signal.SIGTERM)), signal.getsignal(signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
