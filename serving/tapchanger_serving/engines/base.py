"""The interface of an engine, and the one place that picks the runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tapchanger_serving.contract.artifact import Artifact, SmallEngine


class UnsupportedRuntimeError(Exception):
    """No engine of this runtime can be opened: the runtime is unknown, or its library or device is missing."""


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What opening an engine takes.

    `threads` 0 means every CPU core that the container may use. `options` go to the runtime as they are: session
    configuration entries of ONNX Runtime, compile properties of OpenVINO; of TensorRT they say what the plan needs
    (:class:`tapchanger_serving.contract.plans.PlanNeeds`). `small` is a second engine for small batches.
    """

    runtime: str
    file: Path
    inputs: tuple[str, ...]
    output: str
    threads: int = 0
    options: Mapping[str, str] = field(default_factory=dict)
    small: SmallBatches | None = None

    @classmethod
    def of(cls, artifact: Artifact, folder: Path) -> EngineSpec:
        """The engine of an artifact that lies in `folder`."""
        return cls(
            runtime=artifact.runtime,
            file=folder / artifact.engine,
            inputs=artifact.inputs,
            output=artifact.output,
            threads=artifact.threads,
            options=artifact.options,
            small=None if artifact.small is None else SmallBatches.of(artifact, artifact.small, folder),
        )


@dataclass(frozen=True, slots=True)
class SmallBatches:
    """The engine that takes batches of at most `tokens` tokens, padding counted."""

    tokens: int
    spec: EngineSpec

    @classmethod
    def of(cls, artifact: Artifact, small: SmallEngine, folder: Path) -> SmallBatches:
        """The second engine of an artifact that lies in `folder`; it has the first one's tensors."""
        spec = EngineSpec(
            small.runtime, folder / small.engine, artifact.inputs, artifact.output, small.threads, small.options
        )
        return cls(small.tokens, spec)


class Engine(Protocol):
    """A loaded engine. It serves one call at a time; the caller does not share it between threads."""

    def run(self, feeds: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """One forward pass: INT64 `[batch, tokens]` per input, FP32 `[batch, …]` out."""
        ...

    def close(self) -> None:
        """Frees the engine's memory; it can't run afterwards."""
        ...


def open_engine(spec: EngineSpec) -> Engine:
    """Loads the engine, and the one for small batches where there is one.

    Raises :class:`UnsupportedRuntimeError` when the runtime is unknown or can't run on this machine.
    """
    if spec.small is not None:
        from tapchanger_serving.engines.parted import PartedEngine

        return PartedEngine(open_engine(spec.small.spec), open_engine(replace(spec, small=None)), spec.small.tokens)
    match spec.runtime:
        case "onnxruntime":
            from tapchanger_serving.engines.onnxruntime import OnnxRuntimeEngine

            return OnnxRuntimeEngine(spec)
        case "openvino":
            from tapchanger_serving.engines.openvino import OpenVinoEngine

            return OpenVinoEngine(spec)
        case "tensorrt":
            from tapchanger_serving.engines.tensorrt import TensorRtEngine

            return TensorRtEngine(spec)
        case other:
            msg = f"runtime {other!r} is unknown; this release runs onnxruntime, openvino and tensorrt"
            raise UnsupportedRuntimeError(msg)
