"""Triton's model configuration (`config.pbtxt`): the part of it that we use, as types, and its text form.

Field names are those of Triton's `model_config.proto`; the text form is Protocol Buffers' text format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class DataType(StrEnum):
    """Tensor types."""

    STRING = "TYPE_STRING"
    FP32 = "TYPE_FP32"
    INT64 = "TYPE_INT64"


class InstanceKind(StrEnum):
    """Where instances run."""

    CPU = "KIND_CPU"
    GPU = "KIND_GPU"


@dataclass(frozen=True)
class Tensor:
    """An input or output without its batch axis; -1 is an axis of any size."""

    name: str
    data_type: DataType
    dims: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True)
class WarmupInput:
    """One input of a warm-up request. `file` lies in the model's `warmup` folder; without one the data are zeros."""

    name: str
    data_type: DataType
    dims: tuple[int, ...]
    file: str | None = None


@dataclass(frozen=True)
class Warmup:
    """A request that must succeed before the model is ready."""

    name: str
    batch_size: int
    inputs: tuple[WarmupInput, ...]


@dataclass(frozen=True)
class ModelConfig:
    """One model. `model_file` is the engine's file for backends that look for one.

    `profiles` is how many optimization profiles a TensorRT plan has; unless they are named, Triton uses the first only.
    """

    name: str
    backend: str
    max_batch_size: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    instances: int
    kind: InstanceKind
    queue_delay_us: int
    model_file: str | None = None
    warmups: tuple[Warmup, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    profiles: int = 1

    def render(self) -> str:
        """The text of `config.pbtxt`."""
        return "\n".join(_model(self)) + "\n"


def quoted(text: str) -> str:
    """A string literal of the text format; everything but printable ASCII is escaped byte by byte."""
    plain = (chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\{byte:03o}" for byte in text.encode())
    return '"' + "".join(plain) + '"'


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def _message(name: str, lines: Iterator[str]) -> Iterator[str]:
    yield f"{name} {{"
    yield from _indented(lines)
    yield "}"


def _dims(dims: tuple[int, ...]) -> str:
    return f"dims: [{', '.join(str(size) for size in dims)}]"


def _tensor(tensor: Tensor) -> Iterator[str]:
    yield f"name: {quoted(tensor.name)}"
    yield f"data_type: {tensor.data_type}"
    yield _dims(tensor.dims)
    if tensor.optional:
        yield "optional: true"


def _warmup_input(given: WarmupInput) -> Iterator[str]:
    def value() -> Iterator[str]:
        yield f"data_type: {given.data_type}"
        yield _dims(given.dims)
        yield f"input_data_file: {quoted(given.file)}" if given.file else "zero_data: true"

    yield f"key: {quoted(given.name)}"
    yield from _message("value", value())


def _warmup(warmup: Warmup) -> Iterator[str]:
    yield f"name: {quoted(warmup.name)}"
    yield f"batch_size: {warmup.batch_size}"
    for given in warmup.inputs:
        yield from _message("inputs", _warmup_input(given))


def _parameter(key: str, value: str) -> Iterator[str]:
    yield f"key: {quoted(key)}"
    yield f"value {{ string_value: {quoted(value)} }}"


def _instances(config: ModelConfig) -> Iterator[str]:
    yield f"count: {config.instances}"
    yield f"kind: {config.kind}"
    if config.profiles > 1:
        yield f"profile: [{', '.join(quoted(str(index)) for index in range(config.profiles))}]"


def _model(config: ModelConfig) -> Iterator[str]:
    yield f"name: {quoted(config.name)}"
    yield f"backend: {quoted(config.backend)}"
    if config.model_file:
        yield f"default_model_filename: {quoted(config.model_file)}"
    yield f"max_batch_size: {config.max_batch_size}"
    for tensor in config.inputs:
        yield from _message("input", _tensor(tensor))
    for tensor in config.outputs:
        yield from _message("output", _tensor(tensor))
    yield from _message("instance_group", _instances(config))
    yield from _message("dynamic_batching", iter((f"max_queue_delay_microseconds: {config.queue_delay_us}",)))
    yield "version_policy { specific { versions: [1] } }"
    yield "response_cache { enable: false }"
    for key, value in sorted(config.parameters.items()):
        yield from _message("parameters", _parameter(key, value))
    for warmup in config.warmups:
        yield from _message("model_warmup", _warmup(warmup))
