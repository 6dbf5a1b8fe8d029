"""Downloaded checkpoints in the store, from their inspection until their engine is built, so they travel only once."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from tapchanger_serving.build import log
from tapchanger_serving.build.checkpoint import Checkpoint
from tapchanger_serving.build.digest import copy_tree, hash_tree
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.stores.volume import INCOMING


def keep(places: Places, checkpoint: Checkpoint, digest: str) -> None:
    """Leaves a copy of the files that matter, if the store is there and writable."""
    parent = places.store / "models"
    if not os.access(places.store, os.W_OK) or _folder(places, digest).exists():
        return
    parent.mkdir(exist_ok=True)
    incoming = Path(tempfile.mkdtemp(prefix=INCOMING, dir=parent))
    try:
        copy_tree(checkpoint.folder, checkpoint.files, incoming)
        incoming.chmod(0o755)
        incoming.rename(_folder(places, digest))
    except OSError as error:
        # The cache saves a download and no more: a full store or a parallel inspection must not end this one.
        log.warning("could not keep the downloaded checkpoint", digest=digest, error=str(error))
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def kept(places: Places, digest: str) -> Path | None:
    """The folder with exactly this content, if it was kept."""
    folder = _folder(places, digest)
    if not folder.is_dir():
        return None
    files = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    if hash_tree(folder, files) == digest:
        return folder
    forget(places, digest)
    return None


def forget(places: Places, digest: str) -> None:
    """Frees the space: the engine is built, or the copy is broken. A copy that is half gone is no more :func:`kept`."""
    shutil.rmtree(_folder(places, digest), ignore_errors=True)


def _folder(places: Places, digest: str) -> Path:
    return places.store / "models" / digest.replace(":", "-")
