"""Objects that wait for the store, as files in a memory volume: they outlive the process, not the pod. Bounded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tapchanger_serving.capture.pack import Packed

MOST_BYTES = 48 << 20
_BODY, _TOLD = ".body", ".told"


@dataclass(frozen=True)
class Spooled:
    """One object that waits."""

    file: Path
    packed: Packed


class Spool:
    """The files in `folder`, of at most `most` bytes together."""

    def __init__(self, folder: Path, most: int = MOST_BYTES) -> None:
        self._folder = folder
        self._most = most

    def keep(self, packed: Packed) -> bool:
        """Whether there was room for it."""
        told = {"path": packed.path, "records": packed.records, "manifest": packed.manifest.decode()}
        note = json.dumps(told).encode()
        if self.size() + len(packed.body) + len(note) > self._most:
            return False
        name = packed.path.replace("/", "~")
        (self._folder / f"{name}{_TOLD}").write_bytes(note)
        half = self._folder / f"{name}.half"
        half.write_bytes(packed.body)
        half.rename(self._folder / f"{name}{_BODY}")
        return True

    def waiting(self) -> Iterator[Spooled]:
        """The oldest first; one that a killed process left half-written is passed over."""
        for file in sorted(self._folder.glob(f"*{_BODY}")):
            told = json.loads(file.with_suffix(_TOLD).read_text())
            yield Spooled(file, Packed(told["path"], file.read_bytes(), told["manifest"].encode(), told["records"]))

    def forget(self, spooled: Spooled) -> None:
        """It is stored."""
        spooled.file.unlink(missing_ok=True)
        spooled.file.with_suffix(_TOLD).unlink(missing_ok=True)

    def size(self) -> int:
        """Bytes."""
        return sum(file.stat().st_size for file in self._folder.iterdir())
