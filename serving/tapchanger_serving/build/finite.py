"""Looks for NaN and infinity in weights, straight from the file's bytes, without a framework."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tapchanger_serving.build.files import invalid, shown
from tapchanger_serving.build.header import TensorInfo
from tapchanger_serving.build.weights import Weights

_CHUNK = 8 << 20
_EXPONENTS: dict[str, tuple[type[np.unsignedinteger[Any]], np.unsignedinteger[Any]]] = {
    "F64": (np.uint64, np.uint64(0x7FF0000000000000)),
    "F32": (np.uint32, np.uint32(0x7F800000)),
    "F16": (np.uint16, np.uint16(0x7C00)),
    "BF16": (np.uint16, np.uint16(0x7F80)),
}
"""Integer view and exponent bits: IEEE 754 numbers whose exponent bits are all set are NaN or infinite."""


def require_finite(folder: Path, weights: Weights) -> None:
    """Raises `CheckpointInvalid` that names the first tensor with such numbers and how many there are."""
    for file, tensors in weights.by_file.items():
        for tensor in tensors:
            count = _unfinished(folder / file, tensor)
            if count:
                raise invalid(
                    f"tensor {shown(tensor.name)} of {file} holds {count} numbers of {tensor.size} that are NaN or infinite",
                    "train or convert the model again; answers from such weights mean nothing",
                )


def _unfinished(path: Path, tensor: TensorInfo) -> int:
    if tensor.dtype not in _EXPONENTS:
        return 0
    view, exponent = _EXPONENTS[tensor.dtype]
    return sum(int(np.count_nonzero(block & exponent == exponent)) for block in _blocks(path, tensor, view))


def _blocks(path: Path, tensor: TensorInfo, view: type[np.unsignedinteger[Any]]) -> Iterator[npt.NDArray[Any]]:
    left = tensor.end - tensor.start
    with path.open("rb") as stream:
        stream.seek(tensor.start)
        while left and (block := stream.read(min(_CHUNK, left))):
            left -= len(block)
            yield np.frombuffer(block, view)
