"""Which files of a remote folder a checkpoint consists of: all others stay where they are."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from tapchanger_serving.build.checkpoint import DESCRIPTIONS
from tapchanger_serving.build.weights import INDEX, SINGLE, is_pickle, shard_names


def needed(names: Collection[str]) -> list[str]:
    """Of `names` (paths in the folder) those that describe the checkpoint, and every file of safetensors, sorted."""
    return sorted(name for name in names if name in DESCRIPTIONS or name == INDEX or _is_tensors(name))


def fetch_needed(names: Collection[str], fetch: Callable[[str], None], folder: Path) -> None:
    """Fetches what is needed, descriptions first; of the weights those that the index names, or the single file.

    Without any weights the names of pickled ones are left as empty files, so that whoever reads the folder can say what
    lies at the address.
    """
    for name in needed(names):
        if not _is_tensors(name):
            fetch(name)
    wanted = shard_names(folder) if INDEX in names else (SINGLE,)
    weights = [name for name in wanted if name in names]
    for name in weights:
        fetch(name)
    if not weights:
        for name in filter(is_pickle, names):
            (folder / Path(name).name).touch()


def _is_tensors(name: str) -> bool:
    return name.endswith(".safetensors") and "/" not in name
