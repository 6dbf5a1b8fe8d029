"""What an engine costs beside its speed, measured in a process of its own: `python -m tapchanger_serving.build.cost SPEC`."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tapchanger_serving.engines import EngineSpec, open_engine
from tapchanger_serving.engines.text import Tensors

_TIMEOUT = 120
_RUNS = 3


@dataclass(frozen=True, slots=True)
class Cost:
    """MiB that loading the engine and running batches adds to a process that has imported its runtime, and how long
    it takes from opening to the first answer, in milliseconds.
    """

    memory_mib: float
    start_ms: float


def engine_cost(spec: EngineSpec, batch: int, tokens: int) -> Cost | None:
    """What it takes to have the engine at all; None if the process failed, since opening it shows the error."""
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
    memory, start = map(float, done.stdout.split()[-2:])
    return Cost(round(memory, 1), round(start, 1))


def _main(order: dict[str, object]) -> None:
    batch, tokens = int(str(order.pop("batch"))), int(str(order.pop("tokens")))
    spec = EngineSpec(**(order | {"file": Path(str(order["file"]))}))  # type: ignore[arg-type]
    importlib.import_module(f"tapchanger_serving.engines.{spec.runtime}")
    feeds: Tensors = {name: np.ones((batch, tokens), dtype=np.int64) for name in spec.inputs}
    before = _resident_mib()
    began = time.monotonic()
    engine = open_engine(spec)
    engine.run(feeds)
    start = time.monotonic() - began
    for _ in range(_RUNS):
        engine.run(feeds)
    sys.stdout.write(f"{_resident_mib() - before} {start * 1e3}\n")


def _resident_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
