"""Messages between the operator and the steps of a build: requests go in by environment, answers come out through the
container's termination message, which the kubelet keeps to 4096 bytes.
"""

from __future__ import annotations

from typing import Literal, Protocol

from pydantic import Field

from tapchanger_serving.contract.base import Message
from tapchanger_serving.contract.distill import Distill, Distillation
from tapchanger_serving.contract.evidence import Calibration, DataQuality, Flips, Interval
from tapchanger_serving.contract.gates import Gates, TextSource
from tapchanger_serving.contract.plans import TensorRtOptions

Task = Literal["text-classification", "token-classification", "feature-extraction", "text-generation"]
Runtime = Literal["auto", "tensorrt", "onnxruntime", "openvino"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8", "fp8"]

TERMINATION_MESSAGE_LIMIT = 4096
BUSY = 0.05
"""From this share of :attr:`BuildReport.waited` on, a measurement counts as disturbed, and people are told."""


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
    `version` is the source's own mark of the content (a commit, a manifest's digest); None where it has none.
    `task` is the one it was inspected for.
    """

    digest: str
    task: Task | None = None
    architecture: str
    labels: tuple[str, ...] = ()
    max_tokens: int
    parameters: int
    size_bytes: int
    hardware: Hardware
    version: str | None = None


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


class BuildRequest(Message):
    """What the steps of a build are asked to do.

    `calibration_data` are the texts on which int8 and fp8 engines find their ranges; without it, the comparison texts are.
    `drift_data` are the texts that traffic is compared with; without it, the evaluation data are.
    `temperature_scaling` fits a temperature on one half of the evaluation data, and the engine's scores follow it.
    """

    name: str
    uri: str
    digest: str
    task: Task
    runtime: Runtime = "auto"
    precision: Precision = "auto"
    shapes: Shapes = Shapes()
    gates: Gates = Gates()
    calibration_data: TextSource | None = None
    drift_data: TextSource | None = None
    temperature_scaling: bool | None = None
    tensorrt: TensorRtOptions | None = None
    distill: Distill | None = None
    hardware: Hardware

    @property
    def tensorrt_or_default(self) -> TensorRtOptions:
        """What the request says of TensorRT engines."""
        return self.tensorrt or TensorRtOptions()

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps of the build, in order."""
        return ("fetch", "export", *(("distill",) if self.distill else ()), "measure")


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
    `score` is what the choice goes by: the geometric mean over the surface of its speed as a share of the fastest one's.
    `threads` 0 means all cores. `memory_mib` is what loading and running it adds to a process, `start_ms` how long a process
    takes from opening it to its first answer, `size_bytes` its files. `surface` has the points that were measured: what is
    far behind with some tokens is not tried with more. `note` is what people should know of how it was made. `engine` and
    `options` are its file and how the runtime opens it, as :class:`~tapchanger_serving.contract.artifact.Artifact` has them.
    A candidate that failed has `error` and no figures. `student_layers` is how many layers the distilled student has that this
    is an engine of; None where it is one of the model itself.
    """

    runtime: str
    precision: str
    student_layers: int | None = None
    texts_per_second: float | None = None
    p50_ms: float | None = None
    score: float | None = None
    threads: int | None = None
    memory_mib: float | None = Field(default=None, alias="memoryMiB")
    start_ms: float | None = None
    size_bytes: int | None = None
    agreement: float | None = None
    cosine: float | None = None
    max_difference: float | None = None
    passed: bool = False
    note: str | None = None
    error: str | None = None
    surface: tuple[Timing, ...] | None = None
    engine: str | None = None
    options: dict[str, str] | None = None


class SmallChoice(Message):
    """The second engine of an artifact, for batches of at most `tokens` tokens, and how much it gains.

    `gain` is by how much the geometric mean of the speeds over the surface rises, as a share.
    """

    tokens: int
    runtime: str
    precision: str
    threads: int
    gain: float


class GateResult(Message):
    """One gate's figure against its bound. `value` None means that it could not be evaluated, which fails.

    `rows` is how many rows, texts or tokens the figure is about; `examples` are some data rows, from 1, that speak against it.
    """

    name: str
    value: float | None = None
    interval: Interval | None = None
    bound: str
    passed: bool
    rows: int | None = None
    examples: tuple[int, ...] = ()
    detail: str | None = None


class BuildReport(Message):
    """What a finished build says; it is the termination message of step `measure` and part of the stored report.

    `speedup` is texts per second of the chosen engine over PyTorch eager, measured in the same run, turn by turn.
    `artifact` is `sha256:<hex>` of the manifest; the files are `artifacts/sha256-<hex>/` in the store. `software` has the
    versions of the libraries that made and measured the engine. `small` is set where small batches have an engine of their own.
    `waited` is the share of the measurement in which the engines' threads wanted a CPU and had none, from 0 to 1; None where the
    system doesn't tell. `digest` is `sha256:<hex>` of the stored report's bytes, and
    `artifact_uri` and `report_uri` say where both lie if not in the volume: only the termination message can say these.
    `student_layers` is the chosen candidate's, `distillation` how the student came about.
    """

    artifact: str
    size_bytes: int
    runtime: str
    precision: str
    student_layers: int | None = None
    why: str
    speedup: float
    torch_texts_per_second: float
    candidates: tuple[Candidate, ...]
    gates: tuple[GateResult, ...]
    surface: tuple[Timing, ...]
    compared_texts: int
    seconds: float
    small: SmallChoice | None = None
    waited: float | None = None
    calibration: Calibration | None = None
    robustness: tuple[Flips, ...] = ()
    data: DataQuality | None = None
    distillation: Distillation | None = None
    software: dict[str, str] | None = None
    digest: str | None = None
    artifact_uri: str | None = None
    report_uri: str | None = None


class Titled(Protocol):
    """What is an engine, or may become one."""

    @property
    def runtime(self) -> str:
        """Of the candidates' runtimes."""
        ...

    @property
    def precision(self) -> str:
        """Of the candidates' precisions."""
        ...

    @property
    def student_layers(self) -> int | None:
        """As :class:`Candidate` has it."""
        ...


def engine_title(engine: Titled) -> str:
    """Runtime and precision, and whether it is a student: `openvino int8`, `openvino int8 of the 3-layer student`."""
    student = f" of the {engine.student_layers}-layer student" if engine.student_layers else ""
    return f"{engine.runtime} {engine.precision}{student}"
