"""The volume. Everything is written beside its place and renamed into it, so a reader never sees half of anything."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tapchanger_serving.build.digest import copy_hashed, file_sha256
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.stores.base import Entry, Kind, digest_of
from tapchanger_serving.contract.artifact import MANIFEST, Artifact, ArtifactFile
from tapchanger_serving.contract.messages import BuildReport
from tapchanger_serving.contract.stored import ARTIFACTS, REPORTS, artifact_path

_TIMINGS = "timings"
INCOMING = ".incoming-"
"""What has this prefix is being written or taken away. After a kill it stays until it is collected; nobody reads it."""
_ROOMS: dict[str, Kind] = {REPORTS: "report", ARTIFACTS: "artifact", "models": "download", _TIMINGS: "download"}


@dataclass(frozen=True, slots=True)
class Volume:
    """The folder `places.store`. See :class:`tapchanger_serving.build.stores.base.ArtifactStore`."""

    places: Places

    def artifact_folder(self, digest: str) -> Path:
        """Where the artifact `sha256:<hex>` lies."""
        return self.places.store / artifact_path(digest)

    def write_artifact(self, files: Mapping[str, Path], manifest: Artifact) -> tuple[str, int]:
        """See the protocol."""
        parent = self.places.store / ARTIFACTS
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=INCOMING, dir=parent))
        try:
            entries = [_take(name, source, folder / name) for name, source in sorted(files.items())]
            complete = manifest.model_copy(update={"files": tuple(entries)})
            text = complete.dumps().encode()
            digest = digest_of(text)
            _write_synced(folder / MANIFEST, text)
            _publish(folder, self.artifact_folder(digest), digest)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return digest, len(text) + sum(entry.size_bytes for entry in entries)

    def read_manifest(self, digest: str) -> Artifact:
        """See the protocol."""
        return Artifact.model_validate_json((self.artifact_folder(digest) / MANIFEST).read_bytes())

    def write_report(self, name: str, report: BuildReport, page: str, card: str) -> BuildReport:
        """See the protocol. The report is written last."""
        content = report.dumps().encode()
        for path, text in ((self.places.page(name), page.encode()), (self.places.card(name), card.encode())):
            write_file(path, text)
        write_file(self.places.report(name), content)
        return report.model_copy(update={"digest": digest_of(content)})

    def finished(self, name: str) -> BuildReport | None:
        """See the protocol. Both are marked as used before they are read, so that they aren't collected meanwhile."""
        path = self.places.report(name)
        if not path.is_file():
            return None
        content = path.read_bytes()
        try:
            report = BuildReport.model_validate_json(content)
        except ValidationError:
            return None
        folder = self.artifact_folder(report.artifact)
        for used in (path, folder):
            with suppress(FileNotFoundError):
                os.utime(used)
        valid = valid_artifact(folder, report.artifact)
        return report.model_copy(update={"digest": digest_of(content)}) if valid else None

    def entries(self) -> Iterator[Entry]:
        """See the protocol; fetched models lie here too. What goes while this looks is passed over."""
        for room, kind in _ROOMS.items():
            for path in _entries(self.places.store / room):
                age = _age(path)
                half = path.name.startswith(INCOMING)
                name = path.name if half else path.name.partition(".")[0]
                # What TensorRT has measured serves all builds, and stays.
                if age is not None and (half or room != _TIMINGS):
                    yield Entry(f"{room}/{path.name}", kind, name, age, _size(path), half)

    def remove(self, entry: Entry, least_age: float) -> bool:
        """Renames, looks again, deletes: a build that has begun to use it in between gets it back."""
        path = self.places.store / entry.path
        aside = Path(tempfile.mkdtemp(prefix=INCOMING, dir=path.parent))
        taken = aside / path.name
        try:
            path.rename(taken)
            age = _age(taken)
            if age is not None and age < least_age:
                _put_back(taken, path)
                return False
        except FileNotFoundError:
            return False
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return True


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


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _age(path: Path) -> float | None:
    """Seconds since the thing, or a file right inside it, was last written or used; None if it is gone."""
    try:
        times = [path.stat().st_mtime, *(inside.stat().st_mtime for inside in _entries(path))]
    except FileNotFoundError:
        return None
    return time.time() - max(times)


def _size(path: Path) -> int:
    size = 0
    for file in [path, *path.rglob("*")]:
        with suppress(FileNotFoundError):
            size += file.stat().st_size if file.is_file() else 0
    return size


def _put_back(taken: Path, place: Path) -> None:
    """Where a build has meanwhile made the same again, the new one stays."""
    with suppress(OSError):
        if not os.path.lexists(place):
            taken.rename(place)
