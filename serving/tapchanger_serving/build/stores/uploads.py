"""Writing objects to an S3 store: at once where they are small, else in parts that are repeated one by one.

A large object becomes visible when its last part is in and the upload is completed, never before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tapchanger_serving.build import log
from tapchanger_serving.build.failures import StepError, TransientStepError
from tapchanger_serving.build.transport.transfer import LISTING_SECONDS, Transfer

PART = 16 << 20
"""Bytes of a part. S3 takes up to 10,000 parts, more than a download may have."""
_PART_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Upload:
    """One that was begun and not ended, by the key of its object. `age` in seconds."""

    key: str
    number: str
    age: float


def file(transfer: Transfer, bucket: str, key: str, source: Path) -> None:
    """Writes a file as one object."""
    size = source.stat().st_size
    transfer.budget.reached(size)
    if size <= PART:
        content(transfer, bucket, key, source.read_bytes())
    else:
        _in_parts(transfer, bucket, key, source)
    transfer.budget.spend(size)


def content(transfer: Transfer, bucket: str, key: str, body: bytes) -> None:
    """Writes some bytes as one object."""
    _call(transfer, "put_object", Bucket=bucket, Key=key, Body=body)


def unfinished(transfer: Transfer, bucket: str, prefix: str) -> Iterator[Upload]:
    """Uploads below a prefix that killed builds have left: nobody sees their parts, and they cost room."""
    more: dict[str, str] = {}
    while True:
        try:
            found = _call(transfer, "list_multipart_uploads", Bucket=bucket, Prefix=prefix, **more)
        except TransientStepError:
            raise
        except StepError as error:
            # Some stores, and some rights, don't have it. The rest of the collection is as good without.
            log.warning("unfinished uploads can't be listed", **error.failure.model_dump(include={"reason", "message"}))
            return
        for upload in found.get("Uploads", []):
            if str(upload["Key"]).startswith(prefix):
                age = (datetime.now(UTC) - upload["Initiated"]).total_seconds()
                yield Upload(str(upload["Key"]), str(upload["UploadId"]), age)
        if not found.get("IsTruncated"):
            return
        more = {"KeyMarker": found["NextKeyMarker"], "UploadIdMarker": found["NextUploadIdMarker"]}


def abort(transfer: Transfer, bucket: str, key: str, number: str) -> None:
    """Takes an unfinished upload away."""
    _call(transfer, "abort_multipart_upload", Bucket=bucket, Key=key, UploadId=number)


def _in_parts(transfer: Transfer, bucket: str, key: str, source: Path) -> None:
    number = _call(transfer, "create_multipart_upload", Bucket=bucket, Key=key)["UploadId"]
    try:
        parts: list[dict[str, Any]] = []
        with source.open("rb") as reader:
            while body := reader.read(PART):
                index = len(parts) + 1
                done = _call(
                    transfer, "upload_part", Bucket=bucket, Key=key, UploadId=number, PartNumber=index, Body=body
                )
                parts.append({"PartNumber": index, "ETag": done["ETag"]})
        whole = {"Parts": parts}
        _call(transfer, "complete_multipart_upload", Bucket=bucket, Key=key, UploadId=number, MultipartUpload=whole)
    except TransientStepError:
        _give_up(transfer, bucket, key, number)
        raise
    except StepError:
        # The answer to an upload that was completed may get lost, and there is none to complete then.
        if not _is_there(transfer, bucket, key, source.stat().st_size):
            _give_up(transfer, bucket, key, number)
            raise


def _is_there(transfer: Transfer, bucket: str, key: str, size: int) -> bool:
    try:
        return int(_call(transfer, "head_object", Bucket=bucket, Key=key)["ContentLength"]) == size
    except TransientStepError:
        raise
    except StepError:
        return False


def _give_up(transfer: Transfer, bucket: str, key: str, number: str) -> None:
    """Frees the room at once where the store still answers; else the collection does so."""
    try:
        transfer.store.client.call_s3(
            "abort_multipart_upload", Bucket=bucket, Key=key, UploadId=number, timeout=LISTING_SECONDS
        )
    except transfer.store.errors as error:
        log.warning("an unfinished upload is left in the store", key=key, error=str(error))


def _call(transfer: Transfer, method: str, **arguments: Any) -> Any:
    return transfer.call(
        lambda left: transfer.store.client.call_s3(method, timeout=min(left, _PART_SECONDS), **arguments)
    )
