"""What a candidate is made from, and what making one gives."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tapchanger_serving.build.exported import GRAPH, Exported
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.contract.messages import Hardware, engine_title
from tapchanger_serving.contract.plans import TensorRtOptions
from tapchanger_serving.engines import EngineSpec


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything a recipe may use. `calibration` are texts like those that will be served; `faithful` says whether an engine's
    answers are as close to the reference's as the parity gate wants them.

    `timings` is where TensorRT's timing caches are kept, if anywhere; `tensorrt` is what the request says of its engines.
    """

    exported: Path
    work: Path
    model: Exported
    hardware: Hardware
    calibration: Encoded
    faithful: Callable[[EngineSpec], bool] = lambda _: True
    timings: Path | None = None
    tensorrt: TensorRtOptions = field(default_factory=TensorRtOptions)

    @property
    def graph(self) -> Path:
        """The fp32 ONNX graph."""
        return self.exported / GRAPH

    def folder(self, runtime: str, precision: str) -> Path:
        """A new folder for one candidate's files; it holds nothing that is not part of the engine."""
        path = self.work / f"{runtime}-{precision}"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def spec(self, runtime: str, file: Path, **options: str) -> EngineSpec:
        """An engine in `file` with this model's tensors."""
        return EngineSpec(runtime, file, self.model.inputs, self.model.output, options=options)


@dataclass(frozen=True, slots=True)
class Made:
    """An engine, and what people should know of how it was made."""

    spec: EngineSpec
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """One engine to try: `make` writes its files and says how to open it."""

    runtime: str
    precision: str
    make: Callable[[Bench], Made]
    student_layers: int | None = None

    @property
    def name(self) -> str:
        """Runtime and precision, and whether it is of a student with so many layers, for people."""
        return engine_title(self)


def artifact_files(spec: EngineSpec) -> dict[str, Path]:
    """The engine's files by their name in the artifact: all that lies in the engine's folder."""
    return {path.name: path for path in sorted(spec.file.parent.iterdir())}
