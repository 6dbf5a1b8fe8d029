"""Messages between the operator and the steps of a build: requests go in by environment, answers come out through the
container's termination message, which the kubelet keeps to 4096 bytes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Task = Literal["text-classification", "token-classification", "feature-extraction", "text-generation"]
Runtime = Literal["auto", "tensorrt", "onnxruntime", "openvino"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8", "fp8"]

TERMINATION_MESSAGE_LIMIT = 4096


class Message(BaseModel):
    """Base of all messages: frozen, camelCase on the wire, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    def dumps(self) -> str:
        """Compact JSON with camelCase keys; fields that are unset or None are left out."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


class Gpu(Message):
    """One GPU model as the driver names it."""

    product: str
    compute_capability: str
    driver: str


class Hardware(Message):
    """What an engine depends on in the machine that runs it.

    `instruction_sets` is sorted and holds only those that change which kernel is fastest or which may run
    (avx2, avx512f, avx512_vnni, avx512_bf16, avx_vnni, amx_tile, amx_int8, amx_bf16; on Arm asimd, sve, bf16, i8mm).
    """

    arch: str
    instruction_sets: tuple[str, ...] = ()
    gpu: Gpu | None = None


class Inspection(Message):
    """What step `inspect` found: the checkpoint's content and the hardware of the node it ran on.

    `digest` is `sha256:<hex>` over the sorted lines `<sha256 of file>  <relative path>\\n` of the files that are used.
    """

    digest: str
    architecture: str
    labels: tuple[str, ...] = ()
    max_tokens: int
    parameters: int
    size_bytes: int
    hardware: Hardware


class StepFailure(Message):
    """Why a step gave up, in words for the person who wrote the spec.

    `reason` is CamelCase and becomes the condition's reason; `field` is the spec field to change.
    """

    reason: str
    message: str
    field: str | None = None
    remedy: str | None = None


class Shapes(Message):
    """Largest batch and token count that the engine must take."""

    max_batch_size: int = Field(default=32, ge=1, le=1024)
    max_tokens: int = Field(default=256, ge=8, le=32768)


class ParityGate(Message):
    """How closely the engine must answer like the PyTorch original.

    `min_agreement`: share of equal labels (classification tasks). `min_cosine`: smallest mean cosine similarity of
    embeddings (feature extraction).
    """

    min_agreement: float = Field(default=0.995, ge=0, le=1)
    min_cosine: float = Field(default=0.999, ge=0, le=1)


class DatasetSource(Message):
    """Labelled text: a CSV, JSON Lines or Parquet file at `uri`, with the columns named here."""

    uri: str
    text: str = "text"
    text_pair: str | None = None
    label: str = "label"
    slices: tuple[str, ...] = ()


class MetricGate(Message):
    """A bound on one metric of the evaluation data; `slice` "*" means every slice of enough size."""

    name: Literal["accuracy", "f1", "ece"]
    min: float | None = None
    max: float | None = None
    max_drop: float | None = None
    slice: str | None = None


class EvaluationGate(Message):
    """Evaluation data and the bounds that must hold on it."""

    dataset: DatasetSource
    metrics: tuple[MetricGate, ...] = ()


class Gates(Message):
    """Everything that an engine must show before it may serve."""

    parity: ParityGate = ParityGate()
    evaluation: EvaluationGate | None = None


class BuildRequest(Message):
    """What the steps fetch, export and measure are asked to do."""

    name: str
    uri: str
    digest: str
    task: Task
    runtime: Runtime = "auto"
    precision: Precision = "auto"
    shapes: Shapes = Shapes()
    gates: Gates = Gates()
    hardware: Hardware


class Collection(Message):
    """What step `collect` is asked to keep in the store, whatever its age, and from which age on it removes the rest.

    `builds` are names of EngineBuilds, `artifacts` and `models` are digests `sha256:<hex>`. With `dry_run` it only says what
    it would remove.
    """

    builds: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    older_than_seconds: float = Field(ge=0)
    dry_run: bool = False


class Timing(Message):
    """Latency at one point of the surface, in milliseconds, of whole batches (engine only, without tokenizing)."""

    batch: int
    tokens: int
    p50_ms: float
    p99_ms: float


class Candidate(Message):
    """One engine that was tried.

    `agreement` (share of equal labels, classification), `cosine` (mean cosine, embeddings) and `max_difference`
    (largest absolute difference of scores) are against PyTorch fp32. `texts_per_second` is at the reference point of
    the report (batch 8 × 64 tokens or what `shapes` allows), `p50_ms` the latency of one text of that length.
    A candidate that failed has `error` and no figures.
    """

    runtime: str
    precision: str
    texts_per_second: float | None = None
    p50_ms: float | None = None
    memory_mib: float | None = Field(default=None, alias="memoryMiB")
    agreement: float | None = None
    cosine: float | None = None
    max_difference: float | None = None
    passed: bool = False
    error: str | None = None


class GateResult(Message):
    """One gate's figure against its bound. `value` None means that it could not be evaluated, which fails."""

    name: str
    value: float | None = None
    bound: str
    passed: bool
    detail: str | None = None


class BuildReport(Message):
    """What a finished build says; it is the termination message of step `measure` and part of the stored report.

    `speedup` is texts per second of the chosen engine over PyTorch eager, measured in the same run, turn by turn.
    `artifact` is `sha256:<hex>` of the manifest; the files are `artifacts/sha256-<hex>/` in the store.
    """

    artifact: str
    size_bytes: int
    runtime: str
    precision: str
    why: str
    speedup: float
    torch_texts_per_second: float
    candidates: tuple[Candidate, ...]
    gates: tuple[GateResult, ...]
    surface: tuple[Timing, ...]
    compared_texts: int
    seconds: float
