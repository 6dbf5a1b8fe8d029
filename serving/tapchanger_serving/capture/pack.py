"""Captured texts as objects: JSON Lines, compressed, encrypted where the order says so, each with a manifest."""

from __future__ import annotations

import gzip
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from tapchanger_serving.contract.capture import Encryption

MOST_RECORDS, MOST_BYTES = 1000, 4 << 20
MANIFEST = ".manifest.json"
Seal = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Packed:
    """An object and its manifest, by path below the deployment's prefix."""

    path: str
    body: bytes
    manifest: bytes
    records: int


class Batch:
    """Records that become one object. `began` is when the first came, by the monotonic clock."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._size = 0
        self._redactions: Counter[str] = Counter()
        self._first = self._last = 0.0
        self.began = 0.0

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def full(self) -> bool:
        """Whether it should be packed now."""
        return len(self._lines) >= MOST_RECORDS or self._size >= MOST_BYTES

    def add(self, record: Mapping[str, Any], redactions: Mapping[str, int], at: float) -> None:
        """One record; `at` is when it was answered, in Unix seconds."""
        line = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode(errors="replace") + b"\n"
        if not self._lines:
            self.began, self._first, self._last = time.monotonic(), at, at
        self._lines.append(line)
        self._size += len(line)
        self._redactions.update(redactions)
        self._first, self._last = min(self._first, at), max(self._last, at)

    def pack(self, *, revision: str, pod: str, encryption: Encryption, seal: Seal, now: float) -> Packed:
        """The object; `now` in Unix seconds tells one of a pod from the next."""
        aged = encryption.type == "Age"
        day = time.strftime("%Y-%m-%d", time.gmtime(now))
        path = f"{day}/{revision}/{pod}-{round(now * 1000):013d}.jsonl.gz{'.age' if aged else ''}"
        plain = b"".join(self._lines)
        body = seal(gzip.compress(plain, mtime=0))
        manifest = {
            "object": path,
            "sha256": hashlib.sha256(body).hexdigest(),
            "sizeBytes": len(body),
            "contentSha256": hashlib.sha256(plain).hexdigest(),
            "records": len(self._lines),
            "revision": revision,
            "from": stamp(self._first),
            "to": stamp(self._last),
            "redactions": dict(sorted(self._redactions.items())),
            "redactor": f"presidio-analyzer {version('presidio-analyzer')}",
            "encryption": encryption.type,
        }
        text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
        return Packed(path, body, text.encode(), len(self._lines))


def sealing(encryption: Encryption) -> Seal:
    """Encrypts for the recipients of type Age; for the others nothing is done here. Raises ValueError for a bad recipient."""
    if encryption.type != "Age":
        return bytes
    import pyrage

    try:
        recipients = [pyrage.x25519.Recipient.from_str(text) for text in encryption.recipients]
    except pyrage.RecipientError as error:
        raise ValueError(f"destination.encryption.recipients: {error}; write what `age-keygen -y` prints") from error
    return lambda body: bytes(pyrage.encrypt(body, recipients))


def stamp(unix: float) -> str:
    """RFC 3339, UTC, to the second: a finer time would help nobody who joins labels, and tell more of a person."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix))
