"""Finished builds in an OCI registry: an artifact per engine and one per report, which `oras pull` understands.

A tag appears whole or not at all, and is written last. When a thing was used last is told by a tiny artifact with the
tag `<tag>.used`, since registries tell no times.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from tapchanger_serving.build.failures import STORE_FIELD, StepError
from tapchanger_serving.build.scratch import scratch
from tapchanger_serving.build.stores import push
from tapchanger_serving.build.stores.base import Entry, KeepsAllError, Kind, digest_of
from tapchanger_serving.build.stores.push import Blob
from tapchanger_serving.build.stores.remote import Remote
from tapchanger_serving.build.stores.words import budget, denied, patience
from tapchanger_serving.build.transport.http import RefusedError
from tapchanger_serving.build.transport.layers import Layer, layers_of
from tapchanger_serving.build.transport.registry import DOCKER_CONFIG, Registry, RegistryError, base_url, login_for
from tapchanger_serving.contract.artifact import MANIFEST, Artifact, ArtifactFile
from tapchanger_serving.contract.messages import BuildReport
from tapchanger_serving.contract.stored import artifact_path
from tapchanger_serving.repository.verify import DamagedError, read_manifest

ENGINE_TYPE = "application/vnd.tapchanger.engine.v1"
REPORT_TYPE = "application/vnd.tapchanger.report.v1"
USED_TYPE = "application/vnd.tapchanger.used.v1"
_USED, _USED_AT, _USED_OF = ".used", "dev.tapchanger.used", "dev.tapchanger.of"
_MARKED_SECONDS = 60.0
"""A mark that is not older than this is as good as a new one."""
_ARTIFACT = "sha256-"
_LOGIN = "a login (type kubernetes.io/dockerconfigjson, or OCI_USERNAME and OCI_PASSWORD)"
_DENIED = (401, 403)


@dataclass(frozen=True)
class Repository(Remote):
    """One repository. Tags: `sha256-<hex>` for artifacts, by the digest of their own manifest; builds' names for reports."""

    uri: str
    registry: Registry

    @classmethod
    @contextmanager
    def at(cls, uri: str, host: str, repository: str) -> Iterator[Repository]:
        """Tells the registry's refusals in words, as StepError, and what breaks its specification too."""
        spent, config = budget(uri), os.environ.get(DOCKER_CONFIG)
        try:
            login = login_for(host, Path(config) if config else None)
        except ValueError as error:
            raise denied(uri, str(error), _LOGIN) from error
        url = base_url(host, os.environ.get("OCI_PLAIN_HTTP", ""))
        registry = Registry(url, repository, login, spent, patience(spent))
        try:
            with registry.client:
                yield cls(uri, registry)
        except RefusedError as error:
            if error.status in _DENIED:
                raise denied(uri, str(error), _LOGIN) from error
            raise _invalid(uri, str(error)) from error
        except (RegistryError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise _invalid(uri, str(error)) from error

    def fetch_manifest(self, digest: str, folder: Path) -> Artifact:
        """See :class:`Remote`."""
        held = {layer.name: layer for layer in self._layers(_tag(digest))}
        own = held.get(MANIFEST)
        if own is None or own.digest != digest:
            raise DamagedError(f"artifact {digest} is not in the store {self.uri}")
        self._blob(digest, own.size, folder / artifact_path(digest) / MANIFEST)
        return read_manifest(folder, digest)[0]

    def fetch(self, digest: str, folder: Path) -> None:
        """See :class:`Remote`."""
        for file in self.fetch_manifest(digest, folder).files:
            self._blob(f"sha256:{file.sha256}", file.size_bytes, folder / artifact_path(digest) / file.path)

    def publish(self, digest: str, manifest: bytes, files: Mapping[ArtifactFile, Path]) -> None:
        """See :class:`Remote`. Raises `StoreDamaged` where the registry holds other bytes under a digest and keeps them."""
        own = Blob(MANIFEST, digest, len(manifest), manifest)
        rest = [Blob(file.path, f"sha256:{file.sha256}", file.size_bytes, source) for file, source in files.items()]
        self._push(_tag(digest), ENGINE_TYPE, [own, *rest])

    def report(self, name: str) -> bytes | None:
        """See :class:`Remote`. One that can't be read is as good as none."""
        layer = next((layer for layer in self._layers(name) if layer.name == f"{name}.json"), None)
        if layer is None:
            return None
        with scratch() as folder:
            try:
                self._blob(layer.digest, layer.size, folder / "report")
            except DamagedError:
                return None
            return (folder / "report").read_bytes()

    def write_report(self, name: str, report: BuildReport, page: str, card: str) -> BuildReport:
        """See the protocol."""
        content = report.dumps().encode()
        named = {f"{name}.json": content, f"{name}.html": page.encode(), f"{name}.md": card.encode()}
        blobs = [Blob(title, digest_of(body), len(body), body) for title, body in named.items()]
        self._push(name, REPORT_TYPE, blobs)
        return self.told(name, report, content)

    def use_artifact(self, digest: str) -> None:
        """See :class:`Remote`."""
        self._use(_tag(digest))

    def use_report(self, name: str) -> None:
        """See :class:`Remote`."""
        self._use(name)

    def uris(self, name: str, digest: str) -> tuple[str, str]:
        """See :class:`Remote`; both with the digest of the registry's own manifest."""
        artifact, report = (push.pull_manifest(self.registry, tag) for tag in (_tag(digest), name))
        if artifact is None or report is None:
            raise RegistryError(f"{name} was written and is not there")
        return f"{self.uri}@{artifact[0]}", f"{self.uri}:{name}@{report[0]}"

    def entries(self) -> Iterator[Entry]:
        """See the protocol. What has no mark is marked now: nothing is known of its age."""
        tags = set(push.tags(self.registry))
        things = {tag.removesuffix(_USED) for tag in tags}
        for tag in sorted(things, key=lambda tag: (tag.startswith(_ARTIFACT), tag)):
            kind: Kind = "artifact" if tag.startswith(_ARTIFACT) else "report"
            size = sum(layer.size for layer in self._layers(tag)) if tag in tags else 0
            age = self._age(tag)
            if age is None:
                self._use(tag)
            yield Entry(tag, kind, tag, age or 0.0, size, half=tag not in tags)

    def remove(self, entry: Entry, least_age: float) -> bool:
        """Removes, looks again, and puts back what a build has begun to use in between."""
        age = self._age(entry.name)
        if age is None or age < least_age:
            return False
        found = push.pull_manifest(self.registry, entry.name)
        if found is not None:
            push.delete_manifest(self.registry, found[0])
        now = self._age(entry.name)
        if now is not None and now < least_age:
            if found is not None and push.pull_manifest(self.registry, entry.name) is None:
                push.push_manifest(self.registry, entry.name, found[2])
            return False
        mark = push.pull_manifest(self.registry, entry.name + _USED)
        if mark is not None:
            push.delete_manifest(self.registry, mark[0])
        return True

    def _push(self, tag: str, kind: str, blobs: list[Blob]) -> None:
        for blob in blobs:
            self._ensure(blob)
        body = push.manifest(kind, blobs)
        push.push_manifest(self.registry, digest_of(body), body)
        push.push_manifest(self.registry, tag, body)

    def _ensure(self, blob: Blob) -> None:
        """The blob is there and whole. One that was there already is read: registries don't overwrite what they hold."""
        if push.size_of(self.registry, blob.digest) is None:
            push.push_blob(self.registry, blob)
        elif not self._whole(blob):
            push.push_blob(self.registry, blob)
            if not self._whole(blob):
                raise StepError(
                    "StoreDamaged",
                    f"{self.uri}: the blob {blob.digest} is damaged, and the registry keeps it",
                    field=STORE_FIELD,
                    remedy="repair or remove the blob in the registry's own storage",
                )

    def _whole(self, blob: Blob) -> bool:
        with scratch() as folder:
            try:
                self._blob(blob.digest, blob.size, folder / "blob")
            except DamagedError:
                return False
        return True

    def _blob(self, digest: str, size: int, target: Path) -> None:
        """Raises DamagedError where the blob is missing or another."""
        if push.size_of(self.registry, digest) != size:
            raise DamagedError(f"{self.uri}: the blob {digest} is missing or has not {size} bytes")
        try:
            self.registry.blob(digest, size, target)
        except RegistryError as error:
            raise DamagedError(f"{self.uri}: {error}") from error

    def _layers(self, tag: str) -> list[Layer]:
        """What the manifest of a tag lists; nothing where there is none, or one that can't be read."""
        found = push.pull_manifest(self.registry, tag)
        try:
            return layers_of(found[1]) if found else []
        except RegistryError:
            return []

    def _use(self, tag: str) -> None:
        mark = tag + _USED
        before = push.pull_manifest(self.registry, mark)
        age = _age_of(before[1]) if before else None
        if age is not None and age < _MARKED_SECONDS:
            return
        self._ensure(Blob("", digest_of(push.EMPTY), len(push.EMPTY), push.EMPTY))
        notes = {_USED_AT: datetime.now(UTC).isoformat(timespec="seconds"), _USED_OF: tag}
        after = push.push_manifest(self.registry, mark, push.manifest(USED_TYPE, [], notes))
        if before and before[0] != after:
            try:
                push.delete_manifest(self.registry, before[0])
            except KeepsAllError:
                # It has no tag any more, and what the registry does with such is its own affair.
                return

    def _age(self, tag: str) -> float | None:
        """Seconds since the thing was marked as used; None where it never was."""
        found = push.pull_manifest(self.registry, tag + _USED)
        return _age_of(found[1]) if found else None


def _tag(digest: str) -> str:
    return digest.replace(":", "-")


def _age_of(manifest: Mapping[str, Any]) -> float | None:
    try:
        at = datetime.fromisoformat(manifest["annotations"][_USED_AT])
        return (datetime.now(UTC) - at).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None


def _invalid(uri: str, said: str) -> StepError:
    remedy = "check the registry and the repository; some registries want a repository to be made first"
    return StepError("StoreInvalid", f"{uri}: {said}", field=STORE_FIELD, remedy=remedy)
