"""Archives and data files over HTTPS, pinned by digest and bounded in size."""

from __future__ import annotations

import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import httpx

from tapchanger_serving.build.failures import StepError
from tapchanger_serving.build.limits import MOST_BYTES, MOST_FILES, Budget, Patience, most
from tapchanger_serving.build.transport.http import TIMEOUT, RefusedError, download

_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")


@dataclass(frozen=True, slots=True)
class HttpsSource:
    """One URL. `pin` is the digest of the bytes it serves; without a pin nothing is downloaded."""

    uri: str
    url: str
    pin: str | None
    field: str
    tree_pin: str | None = None

    @property
    def remote(self) -> bool:
        """See :class:`tapchanger_serving.build.sources.base.Source`."""
        return True

    def version(self) -> str | None:
        """The pin."""
        return self.pin

    def folder(self, scratch: Path) -> Path:
        """See :class:`tapchanger_serving.build.sources.base.Source`."""
        if not self._path.endswith(_ARCHIVES):
            raise StepError(
                "SourceUnsupported",
                f"{self.uri} is no archive that this release unpacks ({', '.join(_ARCHIVES)})",
                field=self.field,
                remedy="pack the checkpoint with tar -czf model.tar.gz -C FOLDER .",
            )
        archive = self._download(scratch)
        target = scratch / "unpacked"
        try:
            with tarfile.open(archive) as tar:
                _unpack(tar, target, most(MOST_BYTES))
        except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as error:
            raise StepError(
                "ArchiveInvalid",
                f"{self.uri}: {error}",
                field=self.field,
                remedy="pack it again and pin the new digest",
            ) from error
        finally:
            archive.unlink()
        return _sole_folder(target)

    def file(self, scratch: Path) -> Path:
        """See :class:`tapchanger_serving.build.sources.base.Source`."""
        return self._download(scratch)

    @property
    def _path(self) -> str:
        return urlsplit(self.url).path

    def _download(self, scratch: Path) -> Path:
        if self.pin is None:
            raise StepError(
                "DigestMissing",
                f"{self.uri} has no digest, so its content could change unseen",
                field=self.field,
                remedy=f"append @sha256: and what `curl -sL {self.url} | sha256sum` prints",
            )
        target = scratch / (PurePosixPath(self._path).name or "download")
        budget = Budget(self.uri, self.field)
        try:
            with httpx.Client(follow_redirects=True, timeout=TIMEOUT) as client:
                found = download(
                    lambda headers: client.stream("GET", self.url, headers=headers), target, budget, Patience(budget)
                )
        except (RefusedError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise StepError(
                "DownloadFailed",
                f"{self.url}: {error or type(error).__name__}",
                field=self.field,
                remedy="check that the URL answers from inside the cluster",
            ) from error
        if f"sha256:{found}" != self.pin:
            raise StepError(
                "DigestMismatch",
                f"{self.url}: found sha256:{found}, wanted {self.pin}",
                field=self.field,
                remedy="pin the found digest if the new content is the one you want",
            )
        return target


def _unpack(tar: tarfile.TarFile, target: Path, limit: int) -> None:
    """Regular files and folders only, inside `target`, up to `limit` bytes in all."""
    size, most_members = 0, most(MOST_FILES)
    for count, member in enumerate(tar, start=1):
        if count > most_members:
            msg = f"holds more than {most_members} files; {MOST_FILES} sets the limit"
            raise ValueError(msg)
        if not (member.isfile() or member.isdir()):
            msg = f"{member.name} is a link or a device; archives may hold files and folders only"
            raise ValueError(msg)
        size += member.size
        if size > limit:
            msg = f"unpacks to more than {limit} bytes; {MOST_BYTES} sets the limit"
            raise ValueError(msg)
        tar.extract(member, target, filter="data")


def _sole_folder(folder: Path) -> Path:
    """Archives often hold one top folder: that folder, else the folder itself."""
    entries = list(folder.iterdir()) if folder.is_dir() else []
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder
