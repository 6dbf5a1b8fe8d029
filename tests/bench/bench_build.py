"""Builds engines and holds them against what one gets without a builder, all in one run on this machine.

For MiniLM, a bert-tiny classifier and a classifier of DistilBERT's size (random weights below its head) the builder's own steps
run first. Then the engine that it chose, PyTorch eager, `torch.compile` where it works, ONNX Runtime and OpenVINO at their
defaults take turns, round by round, at each batch and length. The last line is JSON, for each model:

- `engine`, `build_seconds`, `builder_peak_mib`;
- `fidelity`: label agreement or mean cosine of the chosen engine against PyTorch in fp32, from the build's report;
- `speedup_b8x64`: texts a second over PyTorch eager at 8 texts of 64 tokens;
- `worst_vs_best`: the chosen engine's speed over the best of all others, at the point of the grid where it does worst.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import resource
import shutil
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
import transformers

from dev.common import stack as stacks
from tapchanger_serving.build import timing
from tapchanger_serving.build.exported import GRAPH
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.stores.volume import Volume
from tapchanger_serving.build.textset import Encoded, probe_sentences
from tapchanger_serving.build.torch_model import TorchModel, load_torch
from tapchanger_serving.contract.artifact import MANIFEST, Artifact
from tapchanger_serving.contract.messages import BuildReport
from tapchanger_serving.contract.names import ATTENTION_MASK, INPUT_IDS
from tapchanger_serving.engines import EngineSpec, open_engine
from tapchanger_serving.engines.text import TOKENIZER_FILE, Tokenizer
from tests.support.small_builds import Build

GRID = [(batch, tokens) for batch in (1, 8, 32) for tokens in (16, 64, 256)]
REFERENCE = (8, 64)
_HEAD_ROWS = 400
CHOSEN, EAGER = "chosen", "torch eager"
PAUSE_SECONDS = 0.002
"""Between two calls, for threads that spin after their work to come to rest: they would slow whoever is next."""


@dataclass(frozen=True)
class Subject:
    """A model to build."""

    name: str
    task: str
    place: Callable[[Path], None]


def _copied(name: str) -> Callable[[Path], None]:
    return lambda folder: shutil.copytree(stacks.own_stack().models / name, folder, dirs_exist_ok=True)


def _distilbert(folder: Path) -> None:
    """DistilBERT's size with random weights below its head, and MiniLM's tokenizer, which has the same vocabulary."""
    folder.mkdir(parents=True)
    shutil.copy(stacks.own_stack().models / "minilm" / TOKENIZER_FILE, folder / TOKENIZER_FILE)
    torch.manual_seed(1)
    model = transformers.DistilBertForSequenceClassification(
        transformers.DistilBertConfig(initializer_range=0.05)
    ).eval()
    _fit_head(model, Tokenizer(folder / TOKENIZER_FILE, (INPUT_IDS, ATTENTION_MASK), 64))
    model.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)


def _fit_head(model: Any, tokenizer: Tokenizer) -> None:
    """A ridge regression on the moderation data: with a random head all labels would be near ties, which every engine flips."""
    with (stacks.own_stack().models / "data" / "moderation" / "evaluation.csv").open(newline="") as stream:
        rows = list(itertools.islice(csv.DictReader(stream), _HEAD_ROWS))
    fed = tokenizer.pad(tokenizer.tokenize([row["text"] for row in rows], offsets=False))
    with torch.no_grad():
        hidden = model.distilbert(**{name: torch.from_numpy(tensor) for name, tensor in fed.items()}).last_hidden_state
        features = torch.relu(model.pre_classifier(hidden[:, 0]))
        wanted = torch.tensor([1.0 if row["label"] == "unsafe" else -1.0 for row in rows])
        centre = features.mean(dim=0)
        spread = features - centre
        weights = torch.linalg.solve(spread.T @ spread + 1e-2 * torch.eye(spread.shape[1]), spread.T @ wanted)
        model.classifier.weight.copy_(torch.stack([-weights, weights]))
        model.classifier.bias.copy_(torch.stack([centre @ weights, -(centre @ weights)]))


SUBJECTS = (
    Subject("minilm", "feature-extraction", _copied("minilm")),
    Subject("bert-tiny", "text-classification", _copied("moderation-v1")),
    Subject("distilbert-sized", "text-classification", _distilbert),
)


@contextmanager
def _built(subject: Subject) -> Iterator[tuple[Build, BuildReport, float]]:
    """The model after the builder's steps, which take it from a claim as a Job would."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for folder in ("store", "claims/models", "work"):
            (root / folder).mkdir(parents=True)
        subject.place(root / "claims" / "models" / subject.name)
        build = Build(Places(root / "store", root / "claims", root / "work", root / "word"), f"bench-{subject.name}")
        began = time.monotonic()
        report = build.run(build.request(f"pvc://models/{subject.name}", subject.task))
        yield build, report, time.monotonic() - began


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


def _figures(report: BuildReport, seconds: float, speeds: dict[tuple[int, int], dict[str, Any]]) -> dict[str, Any]:
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
        "build_seconds": round(seconds, 1),
        "builder_peak_mib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
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
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    stacks.make_models(stacks.own_stack())
    found = {}
    for subject in SUBJECTS:
        if subject.name not in options.models:
            continue
        print(f"== {subject.name}", flush=True)
        with _built(subject) as (build, report, seconds):
            print(f"  built in {seconds:.0f} s: {report.why}", flush=True)
            speeds = _speeds(build, _runners(build, report, subject.task), options.seconds)
        found[subject.name] = _figures(report, seconds, speeds)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
