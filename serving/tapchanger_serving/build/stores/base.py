"""What every store of finished builds can do."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from tapchanger_serving.contract.artifact import Artifact
from tapchanger_serving.contract.messages import BuildReport

Kind = Literal["report", "artifact", "download"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a store, as collecting sees it.

    `path` is for people, `name` what an order keeps: a build's name, or `sha256-<hex>`. `age` is in seconds since it was
    written or used, `size` in bytes. `half`: it was left half-written by a build that was killed. `mark` is the store's own.
    """

    path: str
    kind: Kind
    name: str
    age: float
    size: int
    half: bool = False
    mark: str = ""


class KeepsAllError(Exception):
    """The store lets nobody remove anything."""


class ArtifactStore(Protocol):
    """Artifacts by the digest of their manifest, reports by the name of their build.

    Stores elsewhere raise :class:`tapchanger_serving.build.failures.StepError`, transient where waiting may help.
    """

    def write_artifact(self, files: Mapping[str, Path], manifest: Artifact) -> tuple[str, int]:
        """Stores the files under their names together with `manifest`, whose `files` are filled in here.

        Returns the artifact's digest and its size in bytes. A valid artifact with the same content is left as it is.
        """
        ...

    def read_manifest(self, digest: str) -> Artifact:
        """The manifest of the artifact `sha256:<hex>`, which must be there."""
        ...

    def write_report(self, name: str, report: BuildReport, page: str, card: str) -> BuildReport:
        """Stores the complete report of the build `name`, with its page for people and its model card.

        It makes the build finished. Returns it with its digest and with what else only the store can say.
        """
        ...

    def finished(self, name: str) -> BuildReport | None:
        """The stored report of the build `name`, if its artifact is still valid; both are as good as new from now on."""
        ...

    def entries(self) -> Iterator[Entry]:
        """All that is there, reports before artifacts."""
        ...

    def remove(self, entry: Entry, least_age: float) -> bool:
        """Takes it away, unless it is younger by now; False if nothing was taken. Raises :class:`KeepsAllError`."""
        ...


def digest_of(content: bytes) -> str:
    """`sha256:<hex>` of some bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
