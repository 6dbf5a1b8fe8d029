"""The artifact: a folder of content-addressed files with a manifest that says how to serve them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tapchanger_serving.contract.base import Message
from tapchanger_serving.contract.messages import Hardware, Task

MANIFEST = "artifact.json"

CpuRuntime = Literal["onnxruntime", "openvino"]
PoolingMode = Literal["mean", "cls", "max"]


class ArtifactFile(Message):
    """One file of the artifact, by path relative to the artifact's folder."""

    path: str
    sha256: str
    size_bytes: int


class Pooling(Message):
    """How token states become one embedding."""

    mode: PoolingMode = "mean"
    normalize: bool = False


class SmallEngine(Message):
    """The engine for batches of at most `tokens` tokens, padding counted. `engine` is its file, which both may share."""

    tokens: int = Field(gt=0)
    runtime: CpuRuntime
    precision: str
    engine: str
    threads: int = 0
    options: dict[str, str] = {}


class Artifact(Message):
    """Manifest `artifact.json`. The artifact's digest is the SHA-256 of this file's bytes.

    `engine` is the engine's file (`model.onnx`, `model.xml` or `model.plan`); `inputs` are the tensor names that it takes,
    all INT64 `[batch, tokens]`; `output` is `logits` or `hidden`. `dimensions` is the last axis of the output.
    `activation` says how logits become scores (softmax, or sigmoid for one logit and multi-label heads). `temperature`
    divides the logits before that, so that scores are calibrated; the raw engine's output is not divided. `small` takes the
    small batches, where another engine is quicker with them.
    """

    format: Literal[1] = 1
    task: Task
    runtime: Literal["onnxruntime", "openvino", "tensorrt"]
    precision: str
    engine: str
    inputs: tuple[str, ...]
    output: str
    dimensions: int
    max_tokens: int
    max_batch_size: int
    labels: tuple[str, ...] = ()
    activation: Literal["softmax", "sigmoid"] = "softmax"
    temperature: float | None = Field(default=None, gt=0)
    pooling: Pooling | None = None
    threads: int = 0
    options: dict[str, str] = {}
    small: SmallEngine | None = None
    hardware: Hardware
    files: tuple[ArtifactFile, ...]
