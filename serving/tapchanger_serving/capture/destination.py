"""Where captured texts are kept: a bucket or a mounted volume. Both are written object by object, and read by nobody here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from tapchanger_serving.build import credentials
from tapchanger_serving.build.failures import StepError
from tapchanger_serving.build.limits import Budget, Patience
from tapchanger_serving.build.transport.clients import Store, open_store
from tapchanger_serving.build.transport.transfer import LISTING_SECONDS, Transfer, size_of
from tapchanger_serving.contract.capture import CREDENTIALS_DIR, DESTINATION_DIR, Encryption, Order

FIELD = "spec.capture.destination"
_SECONDS = 300
_PREFIX = re.compile(
    r"(?P<scheme>s3|pvc)://(?P<holder>[A-Za-z0-9][A-Za-z0-9._-]*)/(?P<path>[A-Za-z0-9][A-Za-z0-9._/-]*)"
)


@dataclass(frozen=True)
class Entry:
    """One object, by its path below the prefix. `age` in seconds, `size` in bytes."""

    path: str
    age: float
    size: int


class Destination(Protocol):
    """Raises StepError where the place can't be reached or refuses."""

    def put(self, path: str, body: bytes) -> None:
        """Writes one object, whole or not at all."""
        ...

    def entries(self) -> Iterator[Entry]:
        """Everything below the prefix."""
        ...

    def delete(self, path: str) -> None:
        """Takes one object away; one that is gone already is no error."""
        ...


def opened(order: Order, secret: Path = Path(CREDENTIALS_DIR), mounted: Path = Path(DESTINATION_DIR)) -> Destination:
    """The place that `order` names. The Secret's keys become this process's environment. Asks nothing yet."""
    match = _PREFIX.fullmatch(order.prefix)
    if match is None or ".." in order.prefix:
        raise StepError("DestinationInvalid", f"{order.prefix!r} names no place", field=FIELD)
    if match["scheme"] == "pvc":
        return Folder(mounted / match["path"])
    if order.secret:
        credentials.take(secret, order.secret, f"{FIELD}.secretName")
    if order.endpoint:
        os.environ["AWS_ENDPOINT_URL"] = order.endpoint
    place = _Bucket(order.prefix)
    try:
        store = open_store("s3")
    except ValueError as error:
        raise place.denied(str(error)) from error
    return Objects(place, store, match["holder"], match["path"], order.encryption)


@dataclass(frozen=True)
class Folder:
    """A folder of a mounted claim."""

    root: Path

    def put(self, path: str, body: bytes) -> None:
        """See the protocol."""
        target = self.root / path
        half = target.with_name(f".{target.name}.half")
        try:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            with half.open("wb") as writer:
                half.chmod(0o640)
                writer.write(body)
                writer.flush()
                os.fsync(writer.fileno())
            half.rename(target)
        except OSError as error:
            raise _refused(self.root, error) from error

    def entries(self) -> Iterator[Entry]:
        """See the protocol."""
        now = datetime.now(UTC).timestamp()
        for file in sorted(self.root.rglob("*")):
            if file.is_file() and not file.is_symlink():
                seen = file.stat()
                yield Entry(file.relative_to(self.root).as_posix(), now - seen.st_mtime, seen.st_size)

    def delete(self, path: str) -> None:
        """See the protocol. A folder that is empty then goes as well."""
        target = self.root / path
        try:
            target.unlink(missing_ok=True)
        except OSError as error:
            raise _refused(self.root, error) from error
        for folder in list(target.parents)[:2]:
            with suppress(OSError):
                folder.rmdir()


def _refused(root: Path, error: OSError) -> StepError:
    said = f"{root}: the volume does not take it ({error.strerror})"
    return StepError("DestinationInvalid", said, field=FIELD, remedy="check the claim's access mode and room")


@dataclass(frozen=True, slots=True)
class _Bucket:
    """See :class:`tapchanger_serving.build.transport.transfer.Place`."""

    uri: str
    scheme: str = "s3"
    field: str = FIELD

    def failure(self, reason: str, what: str, remedy: str) -> StepError:
        """See the protocol."""
        told = "DestinationInvalid" if reason == "DownloadFailed" else reason
        return StepError(told, f"{self.uri}: {what}", field=self.field, remedy=remedy)

    def denied(self, said: str) -> StepError:
        """See the protocol."""
        remedy = "name a Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY that may write, list and delete there"
        return StepError(
            "AccessDenied", f"{self.uri}: the store refuses ({said})", field=f"{FIELD}.secretName", remedy=remedy
        )

    def missing(self, said: str) -> StepError:
        """See the protocol."""
        remedy = "check the bucket and, if it is not Amazon's, the endpoint"
        return StepError("DestinationInvalid", f"{self.uri}: it is not there ({said})", field=self.field, remedy=remedy)


@dataclass(frozen=True)
class Objects:
    """Objects of a bucket below `prefix`."""

    place: _Bucket
    store: Store
    bucket: str
    prefix: str
    encryption: Encryption

    def put(self, path: str, body: bytes) -> None:
        """See the protocol."""
        self._call("put_object", Key=f"{self.prefix}/{path}", Body=body, **self._encrypted())

    def entries(self) -> Iterator[Entry]:
        """See the protocol."""
        more: dict[str, str] = {}
        while True:
            found = self._call("list_objects_v2", Prefix=f"{self.prefix}/", **more)
            for one in found.get("Contents", []):
                age = (datetime.now(UTC) - one["LastModified"]).total_seconds()
                yield Entry(str(one["Key"]).removeprefix(f"{self.prefix}/"), age, size_of({"size": one["Size"]}))
            if not found.get("IsTruncated"):
                return
            more = {"ContinuationToken": found["NextContinuationToken"]}

    def delete(self, path: str) -> None:
        """See the protocol."""
        self._call("delete_object", Key=f"{self.prefix}/{path}")

    def _encrypted(self) -> dict[str, str]:
        match self.encryption.type:
            case "SSE-S3":
                return {"ServerSideEncryption": "AES256"}
            case "SSE-KMS":
                return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.encryption.kms_key}
            case _:
                return {}

    def _call(self, method: str, **arguments: Any) -> Any:
        budget = Budget(self.place.uri, FIELD, where="the Secret of the destination", advice="", seconds=_SECONDS)
        patience = Patience(budget, reason="StoreUnreachable", words="the store did not answer; going on")
        transfer = Transfer(self.place, self.store, budget, patience)
        return transfer.call(
            lambda left: self.store.client.call_s3(
                method, Bucket=self.bucket, timeout=min(left, LISTING_SECONDS), **arguments
            )
        )
