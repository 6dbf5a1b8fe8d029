"""Folders and files in object stores: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from tapchanger_serving.build.failures import StepError, TransientStepError
from tapchanger_serving.build.limits import Budget, Patience
from tapchanger_serving.build.sources.http import passing
from tapchanger_serving.build.sources.needed import fetch_needed, needed
from tapchanger_serving.build.sources.stores import Store, open_store, status_of

T = TypeVar("T")

_LISTING_SECONDS = 60.0
_READING_SECONDS = 120.0
_LARGEST_RANGE, _SMALLEST_RANGE = 8 << 20, 64 << 10
_AT_ONCE = 4
_LOCATION = re.compile(r"(?P<bucket>[A-Za-z0-9][A-Za-z0-9._-]{1,221}[A-Za-z0-9])(?:/(?P<path>.*))?")
_NAMES = {"s3": "bucket", "gs": "bucket", "az": "container"}
_LOGIN = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "gcloud-application-credentials.json",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_DENIED = (401, 403)


@dataclass(frozen=True, slots=True)
class ObjectSource:
    """Objects under a prefix. `tree_pin` is over the files that matter, as for a folder; a data file's is its own digest."""

    uri: str
    scheme: str
    path: str
    tree_pin: str | None
    field: str

    @classmethod
    def parse(cls, uri: str, scheme: str, rest: str, *, tree_pin: str | None, field: str) -> ObjectSource:
        """Reads the part after `://`."""
        parts = _LOCATION.fullmatch(rest)
        path = parts["path"] or "" if parts else ""
        if parts is None or ".." in PurePosixPath(path).parts or "?" in path:
            name = _NAMES[scheme]
            raise StepError(
                "UriInvalid", f"{uri!r} names no {name}", field=field, remedy=f"write {scheme}://{name.upper()}/path"
            )
        return cls(uri, scheme, f"{parts['bucket']}/{path.strip('/')}".rstrip("/"), tree_pin, field)

    @property
    def remote(self) -> bool:
        """See :class:`tapchanger_serving.build.sources.base.Source`."""
        return True

    def version(self) -> str | None:
        """A digest over name, size and the store's own mark (entity tag or generation) of each file that is needed."""
        transfer = _Transfer.open(self)
        found = transfer.checkpoint_files()
        marks = [f"{name} {_size(found[name])} {_mark(found[name])}" for name in needed(found)]
        return hashlib.sha256("\n".join(marks).encode()).hexdigest() if marks else None

    def folder(self, scratch: Path) -> Path:
        """See :class:`tapchanger_serving.build.sources.base.Source`."""
        transfer = _Transfer.open(self)
        found, target = transfer.checkpoint_files(), scratch / "objects"
        target.mkdir(parents=True)
        fetch_needed(found, lambda name: transfer.fetch(found[name], target / name), target)
        return target

    def file(self, scratch: Path) -> Path:
        """See :class:`tapchanger_serving.build.sources.base.Source`."""
        transfer = _Transfer.open(self)
        entry = transfer.call(lambda left: transfer.store.client.info(self.path, timeout=min(left, _LISTING_SECONDS)))
        if entry["type"] != "file":
            raise self.failure("DatasetNotFound", "is a folder", "write the path of a file")
        target = scratch / PurePosixPath(self.path).name
        transfer.fetch(entry, target)
        return target

    def failure(self, reason: str, what: str, remedy: str) -> StepError:
        """An error about this address."""
        return StepError(reason, f"{self.uri}: {what}", field=self.field, remedy=remedy)


@dataclass(frozen=True)
class _Transfer:
    """One download from one store."""

    source: ObjectSource
    store: Store
    budget: Budget
    patience: Patience

    @classmethod
    def open(cls, source: ObjectSource) -> _Transfer:
        budget = Budget(source.uri, source.field)
        try:
            store = open_store(source.scheme)
        except ValueError as error:
            raise _denied(source, str(error)) from error
        return cls(source, store, budget, Patience(budget))

    def checkpoint_files(self) -> dict[str, Any]:
        """What lies in the folder, and in the folder for pooling, by its path in the folder."""
        entries = self._listing(self.source.path)
        if any(entry["type"] == "directory" and _name(entry) == "1_Pooling" for entry in entries):
            entries = [*entries, *self._listing(f"{self.source.path}/1_Pooling")]
        prefix = f"{self.source.path}/"
        return {entry["name"].removeprefix(prefix): entry for entry in entries if entry["type"] == "file"}

    def _listing(self, path: str) -> list[Any]:
        entries: list[Any] = self.call(
            lambda left: self.store.client.ls(path, detail=True, timeout=min(left, _LISTING_SECONDS))
        )
        self.budget.listed(len(entries))
        return entries

    def fetch(self, entry: Any, target: Path) -> None:
        """Writes the object to `target`, in ranges; after a failure it goes on behind the last byte that came."""
        size, length, done = _size(entry), _LARGEST_RANGE, 0
        self.budget.reached(size)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as writer:
            while done < size:
                starts = range(done, size, length)[:_AT_ONCE]
                parts, problem = self._ranges(entry["name"], starts, [min(start + length, size) for start in starts])
                for part in parts:
                    writer.write(part)
                    done += len(part)
                if parts:
                    self.patience.progress()
                if problem:
                    # A way that breaks after so many bytes lets shorter ranges through.
                    length = max(length // 4, _SMALLEST_RANGE)
                    self._trouble(problem)
        self.budget.spend(done)
        now = self.call(lambda left: self.store.client.info(entry["name"], timeout=min(left, _LISTING_SECONDS)))
        if (_size(now), _mark(now)) != (size, _mark(entry)):
            raise TransientStepError(
                "DownloadFailed",
                f"{self.source.uri}: {_name(entry)} changed while it was being read",
                field=self.source.field,
                remedy="leave a published checkpoint as it is and give a new version a new path; it is tried again",
            )

    def _ranges(self, path: str, starts: range, ends: list[int]) -> tuple[list[bytes], BaseException | None]:
        """What came of the ranges up to the first that failed, and how that one failed."""
        left = min(self.budget.in_time(), _READING_SECONDS)
        try:
            answers = self.store.client.cat_ranges(
                [path] * len(starts), list(starts), ends, on_error="return", timeout=left
            )
        except self.store.errors as error:
            return [], error
        parts: list[bytes] = []
        for answer, start, end in zip(answers, starts, ends, strict=True):
            if isinstance(answer, self.store.errors):
                return parts, answer
            if isinstance(answer, BaseException):
                raise answer
            if len(answer) != end - start:
                return parts, OSError(f"{len(answer)} bytes came of a range of {end - start}")
            parts.append(answer)
        return parts, None

    def call(self, action: Callable[[float], T]) -> T:
        """Repeats `action`, which gets the seconds that are left, until it succeeds or fails for good."""
        while True:
            try:
                result = action(self.budget.in_time())
            except self.store.errors as error:
                self._trouble(error)
            else:
                self.patience.progress()
                return result

    def _trouble(self, error: BaseException) -> None:
        """Waits for the next attempt. Raises StepError for what would only fail again."""
        said, status, name = _said(error), status_of(error), _NAMES[self.source.scheme]
        if status in _DENIED or type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
            raise _denied(self.source, said) from error
        if status == 404:
            data = self.source.field.startswith("spec.engine")
            what = f"there is nothing at this path ({said})"
            remedy = f"check the {name}, the path and, if it is not the provider's own, the endpoint"
            raise self.source.failure("DatasetNotFound" if data else "ModelNotFound", what, remedy) from error
        if status is not None and not passing(status):
            remedy = f"check the {name}, its region and the endpoint"
            raise self.source.failure("DownloadFailed", f"{said} (HTTP {status})", remedy) from error
        self.patience.failed(said)


def _denied(source: ObjectSource, said: str) -> StepError:
    remedy = f"name a Secret with {_LOGIN[source.scheme]} that may list and read the path in spec.model.credentials.secretName"
    return source.failure("AccessDenied", f"the store does not let the build in ({said})", remedy)


def _said(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _name(entry: Any) -> str:
    return PurePosixPath(entry["name"]).name


def _size(entry: Any) -> int:
    return int(entry["size"])


def _mark(entry: Any) -> str:
    return str(entry.get("ETag") or entry.get("etag") or entry.get("generation") or "")
