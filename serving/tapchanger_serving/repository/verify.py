"""Reads artifacts and takes nothing on trust: the manifest must have its digest, each file the manifest's."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from tapchanger_serving.contract.artifact import MANIFEST, Artifact, ArtifactFile

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_BLOCK = 1 << 20


class ArtifactError(Exception):
    """The artifact can't be served."""


class DamagedError(ArtifactError):
    """It is missing, incomplete or not what its digest says; building it again helps."""


def read_manifest(store: Path, digest: str) -> tuple[Artifact, Path]:
    """The manifest with this digest and its folder. Raises :class:`ArtifactError`, a :class:`DamagedError` where it is missing
    or another.
    """
    if not _DIGEST.fullmatch(digest):
        raise ArtifactError(f"digest: found {digest!r}; write sha256: and 64 hexadecimal digits")
    folder = store / "artifacts" / digest.replace(":", "-")
    try:
        content = (folder / MANIFEST).read_bytes()
    except FileNotFoundError as error:
        raise DamagedError(f"artifact {digest} is not in the store: {folder / MANIFEST}: {error.strerror}") from error
    found = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if found != digest:
        raise DamagedError(
            f"artifact {digest}: its {MANIFEST} has digest {found}; delete the folder and build it again"
        )
    try:
        artifact = Artifact.model_validate_json(content)
    except ValidationError as error:
        raise ArtifactError(f"artifact {digest}: {MANIFEST} can't be read by this release: {error}") from error
    for file in artifact.files:
        _check_path(digest, file)
    return artifact, folder


def _check_path(digest: str, file: ArtifactFile) -> None:
    path = PurePosixPath(file.path)
    if path.is_absolute() or ".." in path.parts or path == PurePosixPath():
        raise ArtifactError(f"artifact {digest}: {MANIFEST} names {file.path!r}, which lies outside the artifact")


def copy_verified(folder: Path, file: ArtifactFile, target: Path) -> None:
    """Copies one file and compares the digest of what was copied. Raises :class:`ArtifactError`, a
    :class:`DamagedError` where the file is missing or another.
    """
    digest = hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (folder / file.path).open("rb") as source, target.open("xb") as sink:
            while block := source.read(_BLOCK):
                digest.update(block)
                sink.write(block)
    except FileNotFoundError as error:
        raise DamagedError(f"file {file.path} of artifact {folder.name}: {error.strerror}") from error
    except OSError as error:
        raise ArtifactError(f"file {file.path} of artifact {folder.name}: {error.strerror or error}") from error
    if digest.hexdigest() != file.sha256:
        target.unlink()
        raise DamagedError(
            f"file {file.path} of artifact {folder.name} has SHA-256 {digest.hexdigest()}, "
            f"its manifest says {file.sha256}; delete the folder and build it again"
        )
