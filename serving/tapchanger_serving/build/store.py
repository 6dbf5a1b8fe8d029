"""The store: artifacts by the digest of their manifest, reports by the name of their build.

Everything is written beside its place and renamed into it, so a reader never sees half of anything.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from tapchanger_serving.build.digest import copy_hashed, file_sha256
from tapchanger_serving.build.places import Places
from tapchanger_serving.contract.artifact import MANIFEST, Artifact, ArtifactFile
from tapchanger_serving.contract.messages import BuildReport
from tapchanger_serving.contract.stored import artifact_path

INCOMING = ".incoming-"
"""What has this prefix is being written or taken away. After a kill it stays until it is collected; nobody reads it."""


def artifact_folder(places: Places, digest: str) -> Path:
    """Where the artifact `sha256:<hex>` lies."""
    return places.store / artifact_path(digest)


def write_artifact(places: Places, files: Mapping[str, Path], manifest: Artifact) -> tuple[str, int]:
    """Stores the files under their names together with `manifest`, whose `files` are filled in here.

    Returns the artifact's digest and its size in bytes. A valid artifact with the same content is left as it is.
    """
    parent = places.store / "artifacts"
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=INCOMING, dir=parent))
    try:
        entries = [_take(name, source, folder / name) for name, source in sorted(files.items())]
        complete = manifest.model_copy(update={"files": tuple(entries)})
        text = complete.dumps().encode()
        digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
        _write_synced(folder / MANIFEST, text)
        _publish(folder, artifact_folder(places, digest), digest)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return digest, len(text) + sum(entry.size_bytes for entry in entries)


def valid_artifact(folder: Path, digest: str) -> bool:
    """Whether `folder` holds the artifact with this digest, complete and unaltered."""
    manifest = folder / MANIFEST
    if not manifest.is_file() or f"sha256:{file_sha256(manifest)}" != digest:
        return False
    try:
        artifact = Artifact.model_validate_json(manifest.read_bytes())
    except ValidationError:
        return False
    return all(_intact(folder / entry.path, entry) for entry in artifact.files)


def read_manifest(places: Places, digest: str) -> Artifact:
    """The manifest of the artifact `sha256:<hex>`, which must be in the store."""
    return Artifact.model_validate_json((artifact_folder(places, digest) / MANIFEST).read_bytes())


def write_report(places: Places, name: str, report: BuildReport, page: str, card: str) -> BuildReport:
    """Stores the complete report of the build `name`, with its page for people and its model card.

    The report is written last, since it is what makes the build finished. Returns it with its digest.
    """
    content = report.dumps().encode()
    for path, text in ((places.page(name), page.encode()), (places.card(name), card.encode())):
        write_file(path, text)
    write_file(places.report(name), content)
    return _with_digest(report, content)


def finished(places: Places, name: str) -> BuildReport | None:
    """The stored report of the build `name` with its digest, if its artifact is still valid.

    Both are marked as used now, before they are read, so that they aren't collected meanwhile.
    """
    path = places.report(name)
    if not path.is_file():
        return None
    content = path.read_bytes()
    try:
        report = BuildReport.model_validate_json(content)
    except ValidationError:
        return None
    folder = artifact_folder(places, report.artifact)
    for used in (path, folder):
        with suppress(FileNotFoundError):
            os.utime(used)
    return _with_digest(report, content) if valid_artifact(folder, report.artifact) else None


def _with_digest(report: BuildReport, content: bytes) -> BuildReport:
    return report.model_copy(update={"digest": f"sha256:{hashlib.sha256(content).hexdigest()}"})


def _take(name: str, source: Path, target: Path) -> ArtifactFile:
    target.parent.mkdir(exist_ok=True)
    target.parent.chmod(0o755)
    sha256 = copy_hashed(source, target)
    target.chmod(0o644)
    _sync(target)
    _sync(target.parent)
    return ArtifactFile(path=name, sha256=sha256, size_bytes=target.stat().st_size)


def _publish(folder: Path, target: Path, digest: str) -> None:
    if valid_artifact(target, digest):
        os.utime(target)
        return
    _set_aside(target)
    folder.chmod(0o755)
    _sync(folder)
    try:
        folder.rename(target)
    except OSError:
        # Another build may have published the same content in the meantime, which is as good.
        if not valid_artifact(target, digest):
            raise
    _sync(target.parent)


def _set_aside(damaged: Path) -> None:
    """Takes a damaged artifact away in one step: a build that is killed while it deletes leaves no part of it in place."""
    if not damaged.exists():
        return
    aside = Path(tempfile.mkdtemp(prefix=INCOMING, dir=damaged.parent))
    try:
        damaged.rename(aside / damaged.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _intact(path: Path, entry: ArtifactFile) -> bool:
    return path.is_file() and path.stat().st_size == entry.size_bytes and file_sha256(path) == entry.sha256


def write_file(target: Path, content: bytes) -> None:
    """Writes a file beside its place and renames it into it, readable by everyone. Of two at once, one stays, whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=INCOMING, dir=target.parent)
    os.close(handle)
    try:
        _write_synced(Path(temporary), content)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    finally:
        Path(temporary).unlink(missing_ok=True)
    _sync(target.parent)


def _write_synced(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
