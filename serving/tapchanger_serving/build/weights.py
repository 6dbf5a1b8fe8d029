"""Finds a checkpoint's weights: safetensors only, read by their header, never loaded here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from tapchanger_serving.build.failures import MODEL_FIELD, StepError
from tapchanger_serving.build.files import invalid, present, read_json, shown
from tapchanger_serving.build.header import PickledError, TensorInfo, read_header

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"[\w-][\w.-]*\.safetensors", re.ASCII)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
_FLOATS = ("F64", "F32", "F16", "BF16")
_CONVERT = (
    'python -c "import sys; from transformers import {auto} as M, AutoTokenizer as T; s, d = sys.argv[1:]; '
    'M.from_pretrained(s).save_pretrained(d); T.from_pretrained(s).save_pretrained(d)" OLD_FOLDER NEW_FOLDER'
)
_AUTO_CLASSES = {
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "text-generation": "AutoModelForCausalLM",
}


@dataclass(frozen=True, slots=True)
class Weights:
    """The files of the weights and the tensors that they hold, by file."""

    files: tuple[str, ...]
    by_file: Mapping[str, tuple[TensorInfo, ...]]
    size_bytes: int

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """All tensors."""
        return tuple(tensor for tensors in self.by_file.values() for tensor in tensors)

    @property
    def parameters(self) -> int:
        """Numbers in all tensors."""
        return sum(tensor.size for tensor in self.tensors)


def find_weights(folder: Path, task: str) -> Weights:
    """The weight files of a folder.

    Raises `PickleCheckpoint` when only pickled weights lie there, `CheckpointIncomplete` when a file is missing or cut short,
    `CheckpointInvalid` when one is damaged or contradicts another.
    """
    try:
        if present(folder, INDEX):
            placed = _index(folder)
            weights = _measure(folder, sorted(set(placed.values())), extra=(INDEX,))
            _require_as_indexed(weights, placed)
        elif present(folder, SINGLE):
            weights = _measure(folder, (SINGLE,))
        else:
            weights = None
    except PickledError as error:
        raise _pickled([str(error)], task) from error
    if weights:
        _require_floats(weights)
        return weights
    pickles = sorted(shown(path.name) for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise _pickled(pickles, task)
    raise incomplete(f"no {SINGLE} and no {INDEX}; the folder holds {_listing(folder)}")


def incomplete(message: str) -> StepError:
    """The error of a checkpoint that lacks something."""
    return StepError(
        "CheckpointIncomplete",
        message,
        field=MODEL_FIELD,
        remedy="give the whole folder that save_pretrained writes: config.json, model.safetensors and tokenizer.json",
    )


def shard_names(folder: Path) -> tuple[str, ...]:
    """The files that the folder's index names. Raises `CheckpointIncomplete` where it is broken."""
    return tuple(sorted(set(_placed(folder).values())))


def is_pickle(name: str) -> bool:
    """Whether a file of this name holds pickled weights."""
    return any(fnmatch(name, pattern) for pattern in _PICKLES)


def _pickled(names: Sequence[str], task: str) -> StepError:
    return StepError(
        "PickleCheckpoint",
        f"the weights are pickled ({', '.join(names[:5])}); loading a pickle runs code, so only safetensors are read",
        field=MODEL_FIELD,
        remedy="convert it once, where you trust it: " + _CONVERT.format(auto=_AUTO_CLASSES.get(task, "AutoModel")),
    )


def _index(folder: Path) -> dict[str, str]:
    """Tensor → shard, every shard a file of this folder."""
    placed = _placed(folder)
    for shard in set(placed.values()):
        if not present(folder, shard):
            raise incomplete(f"{INDEX} names {shard}, which is not in the folder")
    return placed


def _placed(folder: Path) -> dict[str, str]:
    """Tensor → shard, as the index says."""
    try:
        placed = dict(read_json(folder, INDEX)["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise incomplete(f"{INDEX} is broken: {error}") from error
    for shard in set(map(str, placed.values())):
        if not _SHARD.fullmatch(shard):
            raise incomplete(f"{INDEX} names {shown(shard)}, which is no name of a shard in the same folder")
    return placed


def _require_as_indexed(weights: Weights, placed: Mapping[str, str]) -> None:
    """Each tensor is in one shard only, and in the one that the index says."""
    found: dict[str, str] = {}
    for file, tensors in weights.by_file.items():
        for tensor in tensors:
            if tensor.name in found:
                raise invalid(f"tensor {shown(tensor.name)} is in both {found[tensor.name]} and {file}", _ONCE)
            found[tensor.name] = file
    for name, file in placed.items():
        if found.get(name) != file:
            raise invalid(f"{INDEX} says that tensor {shown(name)} is in {file}, which has none of that name", _ONCE)


_ONCE = "give the index and the shards of one call of save_pretrained, and no others"


def _require_floats(weights: Weights) -> None:
    """Weights of an integer type belong to a quantization that was done before, whose scales nobody here knows."""
    for tensor in weights.tensors:
        if tensor.name.endswith(".weight") and len(tensor.shape) > 1 and tensor.dtype not in _FLOATS:
            raise invalid(
                f"tensor {shown(tensor.name)} is of type {tensor.dtype}; weights are read as {', '.join(_FLOATS)}",
                "give the checkpoint from before its quantization; the build makes and measures low precisions itself",
            )


def _measure(folder: Path, tensors: Sequence[str], extra: tuple[str, ...] = ()) -> Weights:
    files = (*tensors, *extra)
    return Weights(
        files=files,
        by_file={name: read_header(folder / name) for name in tensors},
        size_bytes=sum((folder / name).stat().st_size for name in files),
    )


def _listing(folder: Path) -> str:
    names = sorted(shown(path.name) for path in folder.iterdir())
    return ", ".join(names[:12]) + (" …" if len(names) > 12 else "") if names else "nothing"
