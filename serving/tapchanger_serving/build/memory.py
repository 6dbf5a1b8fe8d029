"""How much memory an engine takes, measured in a process of its own: `python -m tapchanger_serving.build.memory SPEC`."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from tapchanger_serving.engines import EngineSpec, open_engine
from tapchanger_serving.engines.text import Tensors

_TIMEOUT = 120
_RUNS = 3


def engine_memory_mib(spec: EngineSpec, batch: int, tokens: int) -> float | None:
    """MiB that loading the engine and running batches adds to a process that has imported its runtime.

    None if the process failed; the candidate itself will show the error when it is opened.
    """
    order = {
        "runtime": spec.runtime,
        "file": str(spec.file),
        "inputs": spec.inputs,
        "output": spec.output,
        "threads": spec.threads,
        "options": dict(spec.options),
        "batch": batch,
        "tokens": tokens,
    }
    command = [sys.executable, "-m", __name__, json.dumps(order)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT, check=True, text=True)
    except subprocess.SubprocessError:
        return None
    return round(float(done.stdout.strip().splitlines()[-1]), 1)


def _main(order: dict[str, object]) -> None:
    batch, tokens = int(str(order.pop("batch"))), int(str(order.pop("tokens")))
    spec = EngineSpec(**(order | {"file": Path(str(order["file"]))}))  # type: ignore[arg-type]
    importlib.import_module(f"tapchanger_serving.engines.{spec.runtime}")
    feeds: Tensors = {name: np.ones((batch, tokens), dtype=np.int64) for name in spec.inputs}
    before = _resident_mib()
    engine = open_engine(spec)
    for _ in range(_RUNS):
        engine.run(feeds)
    sys.stdout.write(f"{_resident_mib() - before}\n")


def _resident_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
