"""The interface of an engine, and the one place that picks the runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tapchanger_serving.contract.artifact import Artifact


class UnsupportedRuntimeError(Exception):
    """No engine of this runtime can be opened: the runtime is unknown, or its library or device is missing."""


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What opening an engine takes.

    `threads` 0 means every CPU core that the container may use. `options` go to the runtime as they are: session
    configuration entries of ONNX Runtime, compile properties of OpenVINO.
    """

    runtime: str
    file: Path
    inputs: tuple[str, ...]
    output: str
    threads: int = 0
    options: Mapping[str, str] = field(default_factory=dict)

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
        )


class Engine(Protocol):
    """A loaded engine. It serves one call at a time; the caller does not share it between threads."""

    def run(self, feeds: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """One forward pass: INT64 `[batch, tokens]` per input, FP32 `[batch, …]` out."""
        ...

    def close(self) -> None:
        """Frees the engine's memory; it can't run afterwards."""
        ...


def open_engine(spec: EngineSpec) -> Engine:
    """Loads the engine.

    Raises :class:`UnsupportedRuntimeError` when the runtime is unknown or can't run on this machine.
    """
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
