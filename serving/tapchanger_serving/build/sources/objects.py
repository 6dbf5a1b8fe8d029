"""Folders and files in object stores: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tapchanger_serving.build.failures import StepError
from tapchanger_serving.build.limits import Budget, Patience
from tapchanger_serving.build.sources.needed import fetch_needed, needed
from tapchanger_serving.build.transport.transfer import LISTING_SECONDS, NAMES, Transfer, mark_of, name_of, size_of

_LOCATION = re.compile(r"(?P<bucket>[A-Za-z0-9][A-Za-z0-9._-]{1,221}[A-Za-z0-9])(?:/(?P<path>.*))?")
_LOGIN = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "gcloud-application-credentials.json",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


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
            name = NAMES[scheme]
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
        transfer = self._opened()
        found = self._checkpoint_files(transfer)
        marks = [f"{name} {size_of(found[name])} {mark_of(found[name])}" for name in needed(found)]
        return hashlib.sha256("\n".join(marks).encode()).hexdigest() if marks else None

    def folder(self, scratch: Path) -> Path:
        """See :class:`tapchanger_serving.build.sources.base.Source`."""
        transfer = self._opened()
        found, target = self._checkpoint_files(transfer), scratch / "objects"
        target.mkdir(parents=True)
        fetch_needed(found, lambda name: transfer.fetch(found[name], target / name), target)
        return target

    def file(self, scratch: Path) -> Path:
        """See :class:`tapchanger_serving.build.sources.base.Source`."""
        transfer = self._opened()
        entry = transfer.call(lambda left: transfer.store.client.info(self.path, timeout=min(left, LISTING_SECONDS)))
        if entry["type"] != "file":
            raise self.failure("DatasetNotFound", "is a folder", "write the path of a file")
        target = scratch / PurePosixPath(self.path).name
        transfer.fetch(entry, target)
        return target

    def failure(self, reason: str, what: str, remedy: str) -> StepError:
        """An error about this address."""
        return StepError(reason, f"{self.uri}: {what}", field=self.field, remedy=remedy)

    def denied(self, said: str) -> StepError:
        """The store does not let the build in."""
        remedy = f"name a Secret with {_LOGIN[self.scheme]} that may list and read the path in spec.model.credentials.secretName"
        return self.failure("AccessDenied", f"the store does not let the build in ({said})", remedy)

    def missing(self, said: str) -> StepError:
        """There is nothing at the path."""
        what = f"there is nothing at this path ({said})"
        remedy = f"check the {NAMES[self.scheme]}, the path and, if it is not the provider's own, the endpoint"
        data = self.field.startswith("spec.engine")
        return self.failure("DatasetNotFound" if data else "ModelNotFound", what, remedy)

    def _opened(self) -> Transfer:
        budget = Budget(self.uri, self.field)
        return Transfer.open(self, budget, Patience(budget))

    def _checkpoint_files(self, transfer: Transfer) -> dict[str, Any]:
        """What lies in the folder, and in the folder for pooling, by its path in the folder."""
        entries = transfer.listing(self.path)
        if any(entry["type"] == "directory" and name_of(entry) == "1_Pooling" for entry in entries):
            entries = [*entries, *transfer.listing(f"{self.path}/1_Pooling")]
        prefix = f"{self.path}/"
        return {entry["name"].removeprefix(prefix): entry for entry in entries if entry["type"] == "file"}
