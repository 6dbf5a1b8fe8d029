"""Archives and data files over HTTPS, pinned by digest and bounded in size."""

from __future__ import annotations

import hashlib
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import httpx

from tapchanger_serving.build.failures import StepError

_DEFAULT_LIMIT = 64 << 30
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
                _unpack(tar, target, download_limit())
        except (tarfile.TarError, EOFError, OSError, ValueError) as error:
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
        try:
            found = _stream(self.url, target, download_limit())
        except (httpx.HTTPError, ValueError) as error:
            raise StepError(
                "DownloadFailed",
                f"{self.url}: {error or type(error).__name__}",
                field=self.field,
                remedy="check that the URL answers from inside the cluster",
            ) from error
        if found != self.pin:
            raise StepError(
                "DigestMismatch",
                f"{self.url}: found {found}, wanted {self.pin}",
                field=self.field,
                remedy="pin the found digest if the new content is the one you want",
            )
        return target


def download_limit() -> int:
    """Bytes that a download, and what it unpacks to, may have: `TAPCHANGER_MAX_DOWNLOAD_BYTES`, else 64 GiB."""
    return int(os.environ.get("TAPCHANGER_MAX_DOWNLOAD_BYTES", _DEFAULT_LIMIT))


def _stream(url: str, target: Path, limit: int) -> str:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with (
        httpx.stream(
            "GET",
            url,
            follow_redirects=True,
            timeout=httpx.Timeout(30, read=120),
            headers={"Accept-Encoding": "identity"},
        ) as answer,
        target.open("wb") as writer,
    ):
        answer.raise_for_status()
        for chunk in answer.iter_raw():
            size += len(chunk)
            if size > limit:
                msg = f"more than {limit} bytes; TAPCHANGER_MAX_DOWNLOAD_BYTES sets the limit"
                raise ValueError(msg)
            digest.update(chunk)
            writer.write(chunk)
    return f"sha256:{digest.hexdigest()}"


def _unpack(tar: tarfile.TarFile, target: Path, limit: int) -> None:
    """Regular files and folders only, inside `target`, up to `limit` bytes in all."""
    size = 0
    for member in tar:
        if not (member.isfile() or member.isdir()):
            msg = f"{member.name} is a link or a device; archives may hold files and folders only"
            raise ValueError(msg)
        size += member.size
        if size > limit:
            msg = f"unpacks to more than {limit} bytes; TAPCHANGER_MAX_DOWNLOAD_BYTES sets the limit"
            raise ValueError(msg)
        tar.extract(member, target, filter="data")


def _sole_folder(folder: Path) -> Path:
    """Archives often hold one top folder: that folder, else the folder itself."""
    entries = list(folder.iterdir()) if folder.is_dir() else []
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder
