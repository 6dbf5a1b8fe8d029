"""The header of a safetensors file: read, bounded and checked before anything trusts it.

The format (https://huggingface.co/docs/safetensors): 8 bytes of header length (little-endian), a JSON object of tensors
with `dtype`, `shape` and `data_offsets`, then the tensors' bytes without gap or overlap.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tapchanger_serving.build.failures import MODEL_FIELD, StepError
from tapchanger_serving.build.files import JSON_LIMIT, invalid, parse_json, shown

BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4, "C64": 64,
    "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8,
}  # fmt: skip
_DIMENSIONS = 8
_LARGEST = 1 << 48
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_AGAIN = "copy the file again from where it came, or write it again with save_pretrained"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a file. `start` and `end` count bytes from the begin of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def size(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)


class PickledError(Exception):
    """The file is a pickle under another name."""


def read_header(path: Path) -> tuple[TensorInfo, ...]:
    """The tensors of a file, in the order of their bytes.

    Raises `CheckpointInvalid`, `CheckpointIncomplete` for a file cut short, and :class:`PickledError`.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        prefix = stream.read(8)
        if prefix.startswith(_PICKLE_STARTS):
            raise PickledError(path.name)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= size - 8:
            raise _cut(f"{path.name} is no safetensors file: its header says {length} bytes and the file has {size}")
        if length > JSON_LIMIT:
            raise invalid(f"{path.name} has a header of {length} bytes, and at most {JSON_LIMIT} are read", _AGAIN)
        raw = stream.read(length)
    try:
        header = parse_json(raw, "it")
        header.pop("__metadata__", None)
        tensors = [_tensor(name, entry, 8 + length) for name, entry in header.items()]
        tensors.sort(key=lambda tensor: (tensor.start, tensor.end))
        _require_seamless(tensors, 8 + length)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise invalid(f"{path.name} has a broken header: {error}", _AGAIN) from error
    end = tensors[-1].end if tensors else 8 + length
    if size != end:
        raise _cut(f"{path.name} has {size} bytes and its header tells of {end}: it was cut short or altered")
    return tuple(tensors)


def _tensor(name: str, entry: Any, begin: int) -> TensorInfo:
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in BITS:
        _fail(f"tensor {shown(name)} has the dtype {shown(dtype)}; known are {', '.join(BITS)}")
    if not isinstance(shape, list) or len(shape) > _DIMENSIONS or not all(_natural(number) for number in shape):
        _fail(f"tensor {shown(name)} has the shape {shown(shape)}; a shape is a list of at most {_DIMENSIONS} sizes")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_natural(number) for number in offsets):
        _fail(f"tensor {shown(name)} has the offsets {shown(offsets)}; they are two byte counts")
    start, end = offsets
    bits = math.prod(shape) * BITS[dtype]
    if bits != (end - start) * 8:
        _fail(
            f"tensor {shown(name)}, {dtype} {shown(shape)}, takes {bits // 8} bytes and its offsets give {end - start}"
        )
    return TensorInfo(name, dtype, tuple(shape), begin + start, begin + end)


def _natural(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < _LARGEST


def _require_seamless(tensors: list[TensorInfo], begin: int) -> None:
    if tensors and tensors[0].start != begin:
        _fail(f"tensor {shown(tensors[0].name)} does not start where the header ends")
    for before, after in pairwise(tensors):
        if before.end != after.start:
            _fail(f"the bytes of {shown(before.name)} and {shown(after.name)} overlap or leave a gap")


def _fail(message: str) -> None:
    raise ValueError(message)


def _cut(message: str) -> StepError:
    return StepError("CheckpointIncomplete", message, field=MODEL_FIELD, remedy=_AGAIN)
