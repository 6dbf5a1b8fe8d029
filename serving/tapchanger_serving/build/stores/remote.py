"""What an S3 store and a registry have in common: an artifact is described first, and believed only once it was read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from tapchanger_serving.build.digest import file_sha256
from tapchanger_serving.build.scratch import scratch
from tapchanger_serving.build.stores.base import Entry, digest_of
from tapchanger_serving.contract.artifact import Artifact, ArtifactFile
from tapchanger_serving.contract.messages import BuildReport
from tapchanger_serving.repository.verify import ArtifactError


class Remote(ABC):
    """A store elsewhere. Its methods raise StepError where it can't be reached, and what the subclasses say."""

    def write_artifact(self, files: Mapping[str, Path], manifest: Artifact) -> tuple[str, int]:
        """See :class:`tapchanger_serving.build.stores.base.ArtifactStore`."""
        entries = tuple(
            ArtifactFile(path=name, sha256=file_sha256(source), size_bytes=source.stat().st_size)
            for name, source in sorted(files.items())
        )
        complete = manifest.model_copy(update={"files": entries})
        text = complete.dumps().encode()
        digest = digest_of(text)
        self.use_artifact(digest)
        if not self._valid(digest):
            self.publish(digest, text, {entry: files[entry.path] for entry in entries})
        return digest, len(text) + sum(entry.size_bytes for entry in entries)

    def finished(self, name: str) -> BuildReport | None:
        """See the protocol. Both are marked as used before they are read, so that they aren't collected meanwhile.

        That comes first even where there is no report: a store that can't be written says so before the build, not after.
        """
        self.use_report(name)
        content = self.report(name)
        if content is None:
            return None
        try:
            report = BuildReport.model_validate_json(content)
        except ValidationError:
            return None
        self.use_artifact(report.artifact)
        return self.told(name, report, content) if self._valid(report.artifact) else None

    def read_manifest(self, digest: str) -> Artifact:
        """See the protocol. Raises :class:`tapchanger_serving.repository.verify.ArtifactError` where it isn't there."""
        with scratch() as folder:
            return self.fetch_manifest(digest, folder)

    def told(self, name: str, report: BuildReport, content: bytes) -> BuildReport:
        """The report with what only the store can say."""
        artifact, own = self.uris(name, report.artifact)
        return report.model_copy(
            update={"digest": digest_of(content), "artifact_uri": artifact, "report_uri": own},
        )

    def _valid(self, digest: str) -> bool:
        """Whether every byte of it is what its digest says: all are read, since a server that found damage did so too."""
        with scratch() as folder:
            try:
                self.fetch(digest, folder)
            except ArtifactError:
                return False
        return True

    @abstractmethod
    def fetch_manifest(self, digest: str, folder: Path) -> Artifact:
        """Puts the manifest where it would lie in a volume that is mounted at `folder`, and reads it.

        Raises :class:`tapchanger_serving.repository.verify.ArtifactError`, as `fetch` does.
        """

    @abstractmethod
    def fetch(self, digest: str, folder: Path) -> None:
        """Puts the whole artifact where it would lie in a volume that is mounted at `folder`, each byte checked."""

    @abstractmethod
    def publish(self, digest: str, manifest: bytes, files: Mapping[ArtifactFile, Path]) -> None:
        """Stores the files, and at last what makes the artifact visible."""

    @abstractmethod
    def report(self, name: str) -> bytes | None:
        """The bytes of the report, if it is there."""

    @abstractmethod
    def write_report(self, name: str, report: BuildReport, page: str, card: str) -> BuildReport:
        """See the protocol."""

    @abstractmethod
    def use_artifact(self, digest: str) -> None:
        """Marks the artifact as used now, whether it is there or not."""

    @abstractmethod
    def use_report(self, name: str) -> None:
        """Marks the report as used now, whether it is there or not."""

    @abstractmethod
    def uris(self, name: str, digest: str) -> tuple[str, str]:
        """Where the artifact and the report lie, both of which are there."""

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """See the protocol."""

    @abstractmethod
    def remove(self, entry: Entry, least_age: float) -> bool:
        """See the protocol."""
