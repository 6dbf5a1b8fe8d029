"""Steps of builds in processes of their own, forked from one that has imported PyTorch and transformers.

Importing them takes longer than a step takes for a small model. How a step starts for users is `Build.step` with `fresh`.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from unittest.mock import patch

PROGRAM = "tapchanger_serving.build"
WARM = ("export", "distill", "measure")
"""The steps that need these libraries."""
_LIBRARIES = [
    "onnxscript.function_libs.torch_lib.ops",
    "scipy.optimize",
    "torch.export._trace",
    "torch.onnx",
    "transformers.integrations.hub_kernels",
    "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert",
]
_EARLY = {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""What a step sets before it imports them."""
_TOUCHES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.utime", "shutil.rmtree"}


@dataclass(frozen=True)
class Watch:
    """Counts how often a step touches a file below `folder` into the file `counted`.

    It is killed (SIGKILL) right before it does so for the `kill_at`th time, if that isn't 0.
    """

    folder: Path
    counted: Path
    kill_at: int = 0


def run(
    arguments: Sequence[str], environment: Mapping[str, str], watch: Watch | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs `python -m tapchanger_serving.build ARGUMENTS` in `environment`."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        files = (f"/proc/{os.getpid()}/fd/{output.fileno()}", f"/proc/{os.getpid()}/fd/{errors.fileno()}")
        process = _context().Process(target=_step, args=(list(arguments), dict(environment), files, watch))
        with patch.dict(os.environ, {name: os.environ.get(name, value) for name, value in _EARLY.items()}):
            process.start()
        process.join()
        assert process.exitcode is not None
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(list(arguments), process.exitcode, output.read(), errors.read())


def _context() -> ForkServerContext:
    """The context whose one process has the libraries; it starts with the first step."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LIBRARIES)
    return context


def _step(arguments: list[str], environment: dict[str, str], files: tuple[str, str], watch: Watch | None) -> None:
    for number, name in enumerate(files, start=1):
        file = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [PROGRAM, *arguments]
    touched = _watched(watch) if watch else [0]
    try:
        runpy.run_module(PROGRAM, run_name="__main__", alter_sys=True)
    finally:
        if watch:
            watch.counted.write_text(str(touched[0]))


def _watched(watch: Watch) -> list[int]:
    touched = [0]

    def look(event: str, arguments: tuple[object, ...]) -> None:
        if event in _TOUCHES and str(arguments[0]).startswith(str(watch.folder)):
            touched[0] += 1
            if touched[0] == watch.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)
    return touched
