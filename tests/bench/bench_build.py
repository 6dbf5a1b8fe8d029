"""Builds engines and holds them against what one gets without a builder, all in one run on this machine.

For MiniLM, a bert-tiny classifier and a classifier of DistilBERT's size (see widened.py) the builder's own steps run first.
Then the engine that it chose, PyTorch eager, `torch.compile` where it works, ONNX Runtime and OpenVINO at their defaults take
turns, round by round, at each batch and length. The last line is
JSON, for each model:

- `engine`, `build_seconds`, `builder_peak_mib`;
- `fidelity`: label agreement or mean cosine of the chosen engine against PyTorch in fp32, from the build's report;
- `speedup_b8x64`: texts a second over PyTorch eager at 8 texts of 64 tokens;
- `worst_vs_best`: the chosen engine's speed over the best of all others, at the point of the grid where it does worst.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dev.common import stack as stacks
from tapchanger_serving.build import timing
from tapchanger_serving.build.exported import GRAPH
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.stores.volume import Volume
from tapchanger_serving.build.textset import Encoded, probe_sentences
from tapchanger_serving.build.torch_model import TorchModel, load_torch
from tapchanger_serving.contract.artifact import MANIFEST, Artifact
from tapchanger_serving.contract.messages import BuildReport, BuildRequest
from tapchanger_serving.engines import EngineSpec, open_engine
from tapchanger_serving.engines.text import TOKENIZER_FILE, Tokenizer
from tests.bench import widened
from tests.support.small_builds import Build

GRID = [(batch, tokens) for batch in (1, 8, 32) for tokens in (16, 64, 256)]
REFERENCE = (8, 64)
CHOSEN, EAGER = "chosen", "torch eager"
PAUSE_SECONDS = 0.02
"""Between two turns, for threads that spin after their work to come to rest: PyTorch's do so for 15 ms at its defaults."""


@dataclass(frozen=True)
class Subject:
    """A model to build."""

    name: str
    task: str
    place: Callable[[Path], None]


def _copied(name: str) -> Callable[[Path], None]:
    def place(folder: Path) -> None:
        shutil.copytree(stacks.own_stack().models / name, folder, dirs_exist_ok=True)

    return place


SUBJECTS = (
    Subject("minilm", "feature-extraction", _copied("minilm")),
    Subject("bert-tiny", "text-classification", _copied("moderation-v1")),
    Subject("distilbert-sized", "text-classification", widened.place),
)


@dataclass(frozen=True)
class Built:
    """What the steps left, how long they took and the most memory that one of them held."""

    build: Build
    report: BuildReport
    seconds: float
    peak_mib: float


@contextmanager
def _built(subject: Subject) -> Iterator[Built]:
    """The model after the builder's steps, which take it from a claim as a Job would."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for folder in ("store", "claims/models", "work"):
            (root / folder).mkdir(parents=True)
        subject.place(root / "claims" / "models" / subject.name)
        build = Build(Places(root / "store", root / "claims", root / "work", root / "word"), f"bench-{subject.name}")
        request = build.request(f"pvc://models/{subject.name}", subject.task)
        began = time.monotonic()
        peak = max(_peak_mib(build, step, request) for step in request.steps)
        report = BuildReport.model_validate_json(build.last_word())
        yield Built(build, report, time.monotonic() - began, peak)


def _peak_mib(build: Build, step: str, request: BuildRequest) -> float:
    """Runs one step; the most memory that it held."""
    command = [sys.executable, "-m", "tapchanger_serving.build", step]
    process = subprocess.Popen(command, env=os.environ | build.environment(request), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"step {step} failed: {build.last_word()}")
    return usage.ru_maxrss / 1024


def _runners(build: Build, report: BuildReport, task: str) -> dict[str, timing.Runner]:
    folder = Volume(build.places).artifact_folder(report.artifact)
    artifact = Artifact.model_validate_json((folder / MANIFEST).read_text())
    eager = load_torch(build.places.checkpoint, task)
    graph = build.places.exported / GRAPH
    found: dict[str, timing.Runner] = {
        CHOSEN: open_engine(EngineSpec.of(artifact, folder)).run,
        EAGER: eager.run,
        "onnxruntime default": _onnxruntime(graph, artifact.output),
        "openvino default": _openvino(graph, artifact.inputs),
    }
    compiled = _compiled(eager)
    if compiled is not None:
        found["torch.compile"] = compiled.run
    return found


def _onnxruntime(graph: Path, output: str) -> timing.Runner:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    return lambda feeds: session.run([output], feeds)


def _openvino(graph: Path, inputs: tuple[str, ...]) -> timing.Runner:
    import openvino

    compiled = openvino.Core().compile_model(str(graph), "CPU")
    return lambda feeds: compiled({name: feeds[name] for name in inputs})


def _compiled(eager: TorchModel) -> TorchModel | None:
    """PyTorch's own compiler; None where it has no C++ compiler to work with, or can't take the model."""
    try:
        model = TorchModel(torch.compile(eager.headed, dynamic=True))  # type: ignore[arg-type]
        model.headed.inputs = eager.headed.inputs
        model.run({name: np.ones((2, 16), dtype=np.int64) for name in eager.headed.inputs})
    except Exception as error:  # noqa: BLE001 - whatever the compiler raises, it is said and left out
        print(f"torch.compile does not work here: {type(error).__name__}", flush=True)
        return None
    return model


def probe_texts(build: Build) -> Encoded:
    """The built-in sentences, tokenized for the model that was built."""
    exported = json.loads((build.places.exported / "model.json").read_text())
    tokenizer = Tokenizer(build.places.exported / TOKENIZER_FILE, exported["inputs"], exported["maxTokens"])
    return Encoded(tokenizer, tuple(tokenizer.tokenize(probe_sentences(), offsets=False)), 32)


def _speeds(build: Build, runners: dict[str, timing.Runner], seconds: float) -> dict[tuple[int, int], dict[str, Any]]:
    """For each point the median and the 99th percentile (ms) and the texts a second of each."""
    texts = probe_texts(build)
    effort = timing.Effort(min_rounds=7, max_rounds=400, seconds=seconds)
    found = {}
    for batch, tokens in GRID:
        taken = timing.interleave(runners, timing.full_batch(texts, batch, tokens), effort, pause=PAUSE_SECONDS)
        found[batch, tokens] = {
            name: timing.timing(batch, tokens, values).model_dump()
            | {"texts_per_s": batch / timing.undisturbed(values), "rounds": len(values)}
            for name, values in taken.items()
        }
        line = ", ".join(f"{name} {row['texts_per_s']:.0f}" for name, row in found[batch, tokens].items())
        print(f"  {batch:>2} x {tokens:<3} texts/s: {line}", flush=True)
    return found


def _figures(built: Built, speeds: dict[tuple[int, int], dict[str, Any]]) -> dict[str, Any]:
    report = built.report
    chosen = next(
        one for one in report.candidates if (one.runtime, one.precision) == (report.runtime, report.precision)
    )

    def against_best(row: dict[str, Any]) -> float:
        return float(
            row[CHOSEN]["texts_per_s"] / max(one["texts_per_s"] for name, one in row.items() if name != CHOSEN)
        )

    worst = min(speeds, key=lambda point: against_best(speeds[point]))
    reference = speeds[REFERENCE]
    return {
        "engine": f"{report.runtime}/{report.precision}",
        "small": report.small and f"{report.small.runtime}/{report.small.precision} to {report.small.tokens} tokens",
        "build_seconds": round(built.seconds, 1),
        "builder_peak_mib": round(built.peak_mib),
        "fidelity": chosen.cosine if chosen.cosine is not None else chosen.agreement,
        "speedup_b8x64": round(reference[CHOSEN]["texts_per_s"] / reference[EAGER]["texts_per_s"], 2),
        "worst_vs_best": round(against_best(speeds[worst]), 3),
        "worst_at": f"{worst[0]}x{worst[1]}",
        "points": {
            f"{batch}x{tokens}": {
                name: {key: round(row[key], 3) for key in ("texts_per_s", "p50_ms", "p99_ms")}
                for name, row in rows.items()
            }
            for (batch, tokens), rows in speeds.items()
        },
    }


def main() -> int:
    """Prints a line for each point, and JSON last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=[subject.name for subject in SUBJECTS])
    parser.add_argument("--seconds", type=float, default=6.0, help="for each point (default: %(default)g)")
    options = parser.parse_args()
    stacks.make_models(stacks.own_stack())
    found = {}
    for subject in SUBJECTS:
        if subject.name not in options.models:
            continue
        print(f"== {subject.name}", flush=True)
        with _built(subject) as built:
            print(f"  built in {built.seconds:.0f} s: {built.report.why}", flush=True)
            speeds = _speeds(built.build, _runners(built.build, built.report, subject.task), options.seconds)
        found[subject.name] = _figures(built, speeds)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
