"""What the layers of an OCI artifact or image hold: single files with a name, and archives."""

from __future__ import annotations

import gzip
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tapchanger_serving.build.limits import Budget
from tapchanger_serving.build.transport.registry import DIGEST, RegistryError

_TITLE = "org.opencontainers.image.title"
_NAMES = ("org.cncf.model.filepath", "org.cnai.model.filepath", _TITLE)
_UNPACK = "io.deis.oras.content.unpack"
_ARCHIVE = re.compile(r"[.+/-]tar(?:[.+](?:gzip|zstd))?$")
_ZSTD = b"\x28\xb5\x2f\xfd"
_COLLISIONS = (FileExistsError, IsADirectoryError, NotADirectoryError)
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"


class ArchiveError(RegistryError):
    """A layer that is damaged, hostile or packed in an unknown way."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. `name` is the path of the file that it is, or None for an archive."""

    digest: str
    size: int
    media_type: str
    name: str | None


def layers_of(manifest: Mapping[str, Any]) -> list[Layer]:
    """The layers with content, in their order. Raises RegistryError for a manifest that is not one."""
    try:
        return [layer for entry in manifest["layers"] if (layer := _layer(entry)) is not None]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RegistryError(f"the manifest has no layers that can be read ({type(error).__name__}: {error})") from error


def _layer(entry: Mapping[str, Any]) -> Layer | None:
    digest, size, media_type = str(entry["digest"]), int(entry["size"]), str(entry.get("mediaType", ""))
    if not DIGEST.fullmatch(digest) or size < 0:
        raise ValueError(f"{digest!r} of {size} bytes is no layer")
    notes = entry.get("annotations") or {}
    if notes.get(_UNPACK) == "true" or _ARCHIVE.search(media_type):
        return Layer(digest, size, media_type, None)
    name = next((str(notes[key]) for key in _NAMES if notes.get(key)), None)
    if name is None:
        return None
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"a layer is named {name!r}, which leads out of the folder")
    return Layer(digest, size, media_type, str(path))


def unpack(archive: Path, target: Path, wanted: Callable[[str], bool], budget: Budget) -> None:
    """Adds the regular files of an image's layer whose path is `wanted` to `target`, and takes away what it deletes.

    Links and devices are passed over: a base image is full of them, and a checkpoint needs none. Raises ArchiveError.
    """
    try:
        _unpack(archive, target, wanted, budget)
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile, *_COLLISIONS) as error:
        raise ArchiveError(f"a layer can't be unpacked: {error}") from error


def _unpack(archive: Path, target: Path, wanted: Callable[[str], bool], budget: Budget) -> None:
    with archive.open("rb") as stream:
        packed_with_zstd = stream.read(4) == _ZSTD
    if packed_with_zstd:
        raise ArchiveError("the layer is packed with zstd, which this release can't unpack; push it with gzip")
    with tarfile.open(archive) as tar:
        for count, member in enumerate(tar, start=1):
            budget.listed(count)
            path = PurePosixPath(member.name.removeprefix("./"))
            if path.is_absolute() or ".." in path.parts:
                raise ArchiveError(f"the layer holds {member.name!r}, which leads out of the folder")
            if path.name.startswith(_WHITEOUT):
                _take_away(path, target)
            elif member.isfile() and wanted(str(path)):
                budget.spend(member.size)
                content = tar.extractfile(member)
                place = target / path
                place.parent.mkdir(parents=True, exist_ok=True)
                if content is not None:
                    with place.open("wb") as writer:
                        shutil.copyfileobj(content, writer, 1 << 20)
            budget.in_time()


def _take_away(path: PurePosixPath, target: Path) -> None:
    if path.name == _OPAQUE:
        shutil.rmtree(target / path.parent, ignore_errors=True)
        return
    name = path.name.removeprefix(_WHITEOUT)
    if name in ("", ".", ".."):
        raise ArchiveError(f"the layer deletes {str(path)!r}, which leads out of the folder")
    gone = target / path.parent / name
    if gone.is_dir():
        shutil.rmtree(gone)
    else:
        gone.unlink(missing_ok=True)
