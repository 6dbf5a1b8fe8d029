"""The two models that serve one artifact: `NAME` takes text, `NAME-engine` takes tokens."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from tapchanger_serving.contract import names
from tapchanger_serving.contract.artifact import Artifact
from tapchanger_serving.contract.plans import PlanNeeds
from tapchanger_serving.repository.modelconfig import DataType, InstanceKind, ModelConfig, Tensor, Warmup, WarmupInput

TEXT_BACKEND = "tapchanger"
"""Our python-based backend for text models; it runs the engine in its own process."""

_SENTENCE = "The tap changer alters the ratio of the transformer while it carries the load. "
_WARMUP_TEXTS = {
    "short": "Hello.",
    "sentence": _SENTENCE,
    "paragraph": _SENTENCE * 6,
    "longest": _SENTENCE * 4000,
}
_CUT = 40_000
"""Bytes of the longest warm-up text that suffice for any token limit up to 8,192."""


@dataclass(frozen=True)
class Serving:
    """How the revision wants its models run. `max_batch` and `instances` are at least 1, `queue_delay_us` at least 0."""

    name: str
    max_batch: int
    queue_delay_us: int
    instances: int = 1


def text_model(artifact: Artifact, serving: Serving) -> ModelConfig:
    """The model that takes text."""
    inputs = [Tensor(names.TEXT, DataType.STRING, (1,))]
    if artifact.task == "text-classification":
        inputs.append(Tensor(names.TEXT_PAIR, DataType.STRING, (1,), optional=True))
    return ModelConfig(
        name=serving.name,
        backend=TEXT_BACKEND,
        max_batch_size=serving.max_batch,
        inputs=tuple(inputs),
        outputs=_text_outputs(artifact),
        instances=serving.instances,
        # The process that reads texts sits on the CPU, whatever its engine uses.
        kind=InstanceKind.CPU,
        queue_delay_us=serving.queue_delay_us,
        warmups=tuple(
            Warmup(f"{name} x{size}", size, (WarmupInput(names.TEXT, DataType.STRING, (1,), file=name),))
            for name, size in _warmups(serving.max_batch)
        ),
    )


def engine_model(artifact: Artifact, serving: Serving) -> ModelConfig:
    """The raw engine, for clients that tokenize themselves. Its batches are at most what the engine was built for."""
    per_token = artifact.output == names.HIDDEN or artifact.task == "token-classification"
    max_batch = min(serving.max_batch, artifact.max_batch_size)
    return ModelConfig(
        name=serving.name + names.ENGINE_SUFFIX,
        backend=artifact.runtime,
        max_batch_size=max_batch,
        inputs=tuple(Tensor(name, DataType.INT64, (-1,)) for name in artifact.inputs),
        outputs=(
            Tensor(artifact.output, DataType.FP32, (-1, artifact.dimensions) if per_token else (artifact.dimensions,)),
        ),
        instances=1,
        kind=InstanceKind.GPU if artifact.hardware.gpu else InstanceKind.CPU,
        queue_delay_us=serving.queue_delay_us,
        model_file=artifact.engine,
        parameters=_engine_parameters(artifact),
        profiles=PlanNeeds.of(artifact.options).profiles if artifact.runtime == "tensorrt" else 1,
        warmups=tuple(
            Warmup(
                f"zeros x{size}",
                size,
                tuple(WarmupInput(name, DataType.INT64, (min(16, artifact.max_tokens),)) for name in artifact.inputs),
            )
            for size in sorted({1, min(8, max_batch)})
        ),
    )


def warmup_files() -> Mapping[str, bytes]:
    """Files of the text model's `warmup` folder by name: one text each as a BYTES tensor, which Triton repeats."""
    return {name: _bytes_tensor(text.encode()[:_CUT]) for name, text in _WARMUP_TEXTS.items()}


def _warmups(max_batch: int) -> list[tuple[str, int]]:
    return [(name, size) for name in _WARMUP_TEXTS for size in sorted({1, min(8, max_batch)})]


def _bytes_tensor(text: bytes) -> bytes:
    return struct.pack("<I", len(text)) + text


def _text_outputs(artifact: Artifact) -> tuple[Tensor, ...]:
    match artifact.task:
        case "text-classification":
            return (
                Tensor(names.LABEL, DataType.STRING, (1,)),
                Tensor(names.SCORE, DataType.FP32, (1,)),
                Tensor(names.SCORES, DataType.FP32, (len(artifact.labels),)),
            )
        case "token-classification":
            return (Tensor(names.ENTITIES, DataType.STRING, (1,)),)
        case "feature-extraction":
            return (Tensor(names.EMBEDDING, DataType.FP32, (artifact.dimensions,)),)
        case other:
            raise ValueError(
                f"task: this release can't serve {other}; build a text-classification, "
                "token-classification or feature-extraction model"
            )


def _engine_parameters(artifact: Artifact) -> dict[str, str]:
    """What NVIDIA's ONNX Runtime backend reads; ours take it from the artifact's manifest."""
    if artifact.runtime == "onnxruntime" and artifact.threads:
        return {"intra_op_thread_count": str(artifact.threads)}
    return {}
