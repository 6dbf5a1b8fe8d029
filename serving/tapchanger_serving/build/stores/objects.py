"""Finished builds in an S3 store, laid out as in a volume, under a prefix.

An object becomes visible whole or not at all, but there is no renaming: so the object by which a reader finds the others
is written last and removed first. When a thing was used last is told by the age of a tiny object beside it, which is
written anew on every use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from tapchanger_serving.build.digest import file_sha256
from tapchanger_serving.build.failures import STORE_FIELD, StepError
from tapchanger_serving.build.scratch import scratch
from tapchanger_serving.build.stores import uploads
from tapchanger_serving.build.stores.base import Entry, Kind
from tapchanger_serving.build.stores.remote import Remote
from tapchanger_serving.build.stores.words import budget, denied, patience
from tapchanger_serving.build.transport.transfer import LISTING_SECONDS, Transfer, size_of
from tapchanger_serving.contract.artifact import MANIFEST, Artifact, ArtifactFile
from tapchanger_serving.contract.messages import BuildReport
from tapchanger_serving.contract.stored import ARTIFACTS, REPORTS, artifact_path, report_path
from tapchanger_serving.repository.verify import DamagedError, read_manifest

_USED = ".used"
_LOGIN = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


class AbsentError(StepError):
    """There is no such object, or no such bucket."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """The place, for messages. See :class:`tapchanger_serving.build.transport.transfer.Place`."""

    uri: str
    scheme: str = "s3"
    field: str = STORE_FIELD

    def failure(self, reason: str, what: str, remedy: str) -> StepError:
        """See the protocol."""
        told = "StoreInvalid" if reason == "DownloadFailed" else reason
        return StepError(told, f"{self.uri}: {what}", field=self.field, remedy=remedy)

    def denied(self, said: str) -> StepError:
        """See the protocol."""
        return denied(self.uri, said, _LOGIN)

    def missing(self, said: str) -> StepError:
        """See the protocol."""
        remedy = "check the bucket and, if it is not the provider's own, the endpoint"
        return AbsentError("StoreInvalid", f"{self.uri}: it is not there ({said})", field=self.field, remedy=remedy)


@dataclass(frozen=True)
class Objects(Remote):
    """The objects under `prefix`; paths are relative to it."""

    uri: str
    bucket: str
    prefix: str
    transfer: Transfer

    @classmethod
    def at(cls, uri: str, bucket: str, prefix: str) -> Objects:
        """Asks nothing yet."""
        spent = budget(uri)
        return cls(uri, bucket, prefix, Transfer.open(Bucket(uri), spent, patience(spent)))

    def fetch_manifest(self, digest: str, folder: Path) -> Artifact:
        """See :class:`Remote`."""
        path = f"{artifact_path(digest)}/{MANIFEST}"
        self._download(path, folder / path)
        return read_manifest(folder, digest)[0]

    def fetch(self, digest: str, folder: Path) -> None:
        """See :class:`Remote`."""
        for file in self.fetch_manifest(digest, folder).files:
            path = f"{artifact_path(digest)}/{file.path}"
            found = self._download(path, folder / path, file.size_bytes)
            if found and file_sha256(folder / path) != file.sha256:
                found = False
            if not found:
                raise DamagedError(f"{self.uri}/{path} is missing or not what the artifact's manifest says")

    def publish(self, digest: str, manifest: bytes, files: Mapping[ArtifactFile, Path]) -> None:
        """See :class:`Remote`."""
        room = artifact_path(digest)
        for file, source in files.items():
            uploads.file(self.transfer, self.bucket, self._key(f"{room}/{file.path}"), source)
        self._put(f"{room}/{MANIFEST}", manifest)

    def report(self, name: str) -> bytes | None:
        """See :class:`Remote`. Raises `StoreInvalid` where the bucket itself is missing."""
        content = self._read(report_path(name))
        if content is None:
            self.transfer.call(
                lambda left: self._client.call_s3("head_bucket", Bucket=self.bucket, timeout=min(left, LISTING_SECONDS))
            )
        return content

    def write_report(self, name: str, report: BuildReport, page: str, card: str) -> BuildReport:
        """See the protocol. The JSON is written last."""
        path, content = PurePosixPath(report_path(name)), report.dumps().encode()
        self._put(str(path.with_suffix(".html")), page.encode())
        self._put(str(path.with_suffix(".md")), card.encode())
        self._put(str(path), content)
        return self.told(name, report, content)

    def use_artifact(self, digest: str) -> None:
        """See :class:`Remote`."""
        self._put(f"{artifact_path(digest)}/{_USED}", b"")

    def use_report(self, name: str) -> None:
        """See :class:`Remote`."""
        self._put(str(PurePosixPath(report_path(name)).with_suffix(_USED)), b"")

    def uris(self, name: str, digest: str) -> tuple[str, str]:
        """See :class:`Remote`."""
        return f"{self.uri}/{artifact_path(digest)}", f"{self.uri}/{report_path(name)}"

    def entries(self) -> Iterator[Entry]:
        """See the protocol; uploads that were begun and not ended are half-written things too."""
        rooms: dict[str, Kind] = {REPORTS: "report", ARTIFACTS: "artifact"}
        for room, kind in rooms.items():
            groups: dict[str, dict[str, Any]] = {}
            for path, entry in self._listed(room).items():
                name = PurePosixPath(path).relative_to(room).parts[0].partition(".")[0]
                groups.setdefault(name, {})[path] = entry
            for name, group in sorted(groups.items()):
                key, shown = _key_of(kind, name)
                size = sum(size_of(entry) for entry in group.values())
                yield Entry(shown, kind, name, _age(group), size, half=key not in group)
        for upload in uploads.unfinished(self.transfer, self.bucket, self._key("")):
            shown = upload.key.removeprefix(self._key(""))
            yield Entry(shown, "artifact", shown, upload.age, 0, half=True, mark=upload.number)

    def remove(self, entry: Entry, least_age: float) -> bool:
        """What makes the thing visible goes first, then it is looked at again: whoever has begun to use it meanwhile has
        marked it before reading it, and so either finds nothing or gets it back.
        """
        if entry.mark:
            uploads.abort(self.transfer, self.bucket, self._key(entry.path), entry.mark)
            return True
        key, _ = _key_of(entry.kind, entry.name)
        group = self._group(entry)
        if not group or _age(group) < least_age:
            return False
        content = self._read(key) if key in group else None
        self._delete(key)
        again = self._group(entry)
        if again and _age(again) < least_age:
            if content is not None and key not in again:
                self._put(key, content)
            return False
        for path in sorted(again, key=lambda path: path.endswith(_USED)):
            self._delete(path)
        return True

    def _group(self, entry: Entry) -> dict[str, Any]:
        if entry.kind == "artifact":
            return self._listed(f"{ARTIFACTS}/{entry.name}")
        names = (PurePosixPath(report_path(entry.name)).with_suffix(end) for end in (".json", ".html", ".md", _USED))
        found = {str(path): self._info(str(path)) for path in names}
        return {path: info for path, info in found.items() if info is not None}

    def _listed(self, path: str) -> dict[str, Any]:
        """Every object below a path, by its own path."""
        try:
            found: Mapping[str, Any] = self.transfer.call(
                lambda left: self._client.find(self._full(path), detail=True, timeout=min(left, LISTING_SECONDS))
            )
        except AbsentError:
            return {}
        self.transfer.budget.listed(len(found))
        prefix = self._full("")
        return {name.removeprefix(prefix): entry for name, entry in found.items() if entry["type"] == "file"}

    def _download(self, path: str, target: Path, size: int | None = None) -> bool:
        """Whether there is such an object, of `size` bytes where that is known; it then lies at `target`."""
        entry = self._info(path)
        if entry is None or size not in (None, size_of(entry)):
            return False
        try:
            self.transfer.fetch(entry, target)
        except AbsentError:
            return False
        return True

    def _read(self, path: str) -> bytes | None:
        with scratch() as folder:
            target = folder / "object"
            return target.read_bytes() if self._download(path, target) else None

    def _info(self, path: str) -> Any:
        try:
            return self.transfer.call(
                lambda left: self._client.info(self._full(path), timeout=min(left, LISTING_SECONDS))
            )
        except AbsentError:
            return None

    def _put(self, path: str, content: bytes) -> None:
        uploads.content(self.transfer, self.bucket, self._key(path), content)

    def _delete(self, path: str) -> None:
        self.transfer.call(
            lambda left: self._client.call_s3(
                "delete_object", Bucket=self.bucket, Key=self._key(path), timeout=min(left, LISTING_SECONDS)
            )
        )

    @property
    def _client(self) -> Any:
        return self.transfer.store.client

    def _key(self, path: str) -> str:
        return f"{self.prefix}/{path}"

    def _full(self, path: str) -> str:
        return f"{self.bucket}/{self._key(path)}"


def _key_of(kind: Kind, name: str) -> tuple[str, str]:
    """The object that makes a thing visible, and the path by which people know the thing."""
    if kind == "report":
        return report_path(name), report_path(name)
    return f"{ARTIFACTS}/{name}/{MANIFEST}", f"{ARTIFACTS}/{name}"


def _age(group: Mapping[str, Any]) -> float:
    """Seconds since one of the objects was last written, by the store's clock and this machine's."""
    latest: datetime = max(entry["LastModified"] for entry in group.values())
    return (datetime.now(UTC) - latest).total_seconds()
