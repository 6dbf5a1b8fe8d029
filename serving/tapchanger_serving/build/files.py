"""Opens a checkpoint's files and takes nothing on trust: where they lead, what they are, how large they are."""

from __future__ import annotations

import json
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tapchanger_serving.build.failures import MODEL_FIELD, StepError

JSON_LIMIT = 16 << 20
TOKENIZER_LIMIT = 64 << 20
_VALUES_LIMIT = 3_000_000
"""A small file can hold many values, each of which takes some hundred bytes once it is read."""
_SHOWN = 100


def invalid(message: str, remedy: str) -> StepError:
    """The error of a checkpoint that is damaged, out of bounds, or contradicts itself."""
    return StepError("CheckpointInvalid", message, field=MODEL_FIELD, remedy=remedy)


def shown(name: object) -> str:
    """A name from a checkpoint or a folder as it may stand in a message: on one line, short, without control characters."""
    text = str(name)
    plain = text if text.isprintable() else ascii(text)[1:-1]
    return plain if len(plain) <= _SHOWN else plain[:_SHOWN] + "…"


def present(folder: Path, name: str) -> bool:
    """Whether the folder has a regular file of this name.

    Raises `CheckpointInvalid` for a symbolic link that leads out of the folder, to nothing or in a circle, and for a device,
    a pipe or a socket, which could block or never end.
    """
    path = folder / name
    try:
        target = path.resolve(strict=True)
        mode = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise invalid(f"{name} is a symbolic link to nothing", _COPY) from None
        return False
    except RuntimeError as error:
        raise invalid(f"{name} is a symbolic link that leads in a circle", _COPY) from error
    if not target.is_relative_to(folder.resolve()):
        raise invalid(f"{name} is a symbolic link that leads out of the checkpoint's folder, to {shown(target)}", _COPY)
    if stat.S_ISDIR(mode):
        return False
    if not stat.S_ISREG(mode):
        raise invalid(f"{name} is no regular file but a device, a pipe or a socket", _COPY)
    return True


_COPY = "copy the checkpoint with cp -rL FOLDER NEW_FOLDER, which makes files of links, and give the new folder"


def require_size(folder: Path, name: str, limit: int) -> None:
    """Raises `CheckpointInvalid` for a file of more than `limit` bytes."""
    size = (folder / name).stat().st_size
    if size > limit:
        raise invalid(
            f"{name} has {size} bytes, and at most {limit} are read",
            "give the file that save_pretrained writes; weights belong in model.safetensors",
        )


def read_json(folder: Path, name: str) -> Any:
    """The content of a JSON file. Raises `CheckpointInvalid` for one that is too large, `CheckpointIncomplete`'s ValueError else.

    At most :data:`JSON_LIMIT` bytes and some 3,000,000 values are read.
    """
    require_size(folder, name, JSON_LIMIT)
    with (folder / name).open("rb") as stream:
        return parse_json(stream.read(JSON_LIMIT), name)


def parse_json(raw: bytes, name: str) -> Any:
    """The value of a JSON text in UTF-8. Raises ValueError for one that is broken, nested too deeply, or has a key twice."""
    if raw.count(b",") > _VALUES_LIMIT:
        msg = f"more than {_VALUES_LIMIT} values"
        raise ValueError(msg)
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_object)
    except RecursionError:
        msg = f"{name} is nested too deeply"
        raise ValueError(msg) from None


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        msg = f"the key {shown(twice)!r} occurs twice"
        raise ValueError(msg)
    return found
