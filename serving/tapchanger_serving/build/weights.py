"""Finds a checkpoint's weights: safetensors only, read by their header, never loaded here."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from tapchanger_serving.build.failures import MODEL_FIELD, StepError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
_HEADER_LIMIT = 100 << 20
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
    """Files that hold the tensors, and how many numbers and bytes they are."""

    files: tuple[str, ...]
    parameters: int
    size_bytes: int


def find_weights(folder: Path, task: str) -> Weights:
    """The weight files of a folder.

    Raises `PickleCheckpoint` when only pickled weights lie there, `CheckpointIncomplete` when a file is missing or broken.
    """
    if (folder / INDEX).is_file():
        shards = _shards(folder)
        return _measure(folder, shards, extra=(INDEX,))
    if (folder / SINGLE).is_file():
        return _measure(folder, (SINGLE,))
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise StepError(
            "PickleCheckpoint",
            f"the weights are pickled ({', '.join(pickles[:5])}); loading a pickle runs code, so only safetensors are read",
            field=MODEL_FIELD,
            remedy="convert it once, where you trust it: " + _CONVERT.format(auto=_AUTO_CLASSES.get(task, "AutoModel")),
        )
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
    try:
        shards = sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise incomplete(f"{INDEX} is broken: {error}") from error
    for shard in shards:
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise incomplete(f"{INDEX} names {shard}, which is not a file's name")
    return tuple(shards)


def is_pickle(name: str) -> bool:
    """Whether a file of this name holds pickled weights."""
    return any(fnmatch(name, pattern) for pattern in _PICKLES)


def _shards(folder: Path) -> tuple[str, ...]:
    shards = shard_names(folder)
    for shard in shards:
        if not (folder / shard).is_file():
            raise incomplete(f"{INDEX} names {shard}, which is not in the folder")
    return shards


def _measure(folder: Path, tensors: Sequence[str], extra: tuple[str, ...] = ()) -> Weights:
    files = (*tensors, *extra)
    return Weights(
        files=files,
        parameters=sum(_parameters(folder / name) for name in tensors),
        size_bytes=sum((folder / name).stat().st_size for name in files),
    )


def _parameters(path: Path) -> int:
    """Numbers in one safetensors file: 8 bytes of header length (little-endian), a JSON header, then the data."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= min(_HEADER_LIMIT, size - 8):
            raise incomplete(
                f"{path.name} is no safetensors file: its header says {length} bytes and the file has {size}"
            )
        raw = stream.read(length)
    try:
        header = json.loads(raw)
        header.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        parameters = sum(math.prod(entry["shape"]) for entry in header.values())
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise incomplete(f"{path.name} has a broken header: {error}") from error
    if size != 8 + length + end:
        raise incomplete(
            f"{path.name} has {size} bytes and its header tells of {8 + length + end}: it was cut short or altered"
        )
    return int(parameters)


def _listing(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:12]) + (" …" if len(names) > 12 else "") if names else "nothing"
