"""Checkpoints and data in OCI registries: `oci://registry/repository:tag`, pinned by the manifest's digest."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, TypeVar

import httpx

from tapchanger_serving.build.checkpoint import DESCRIPTIONS
from tapchanger_serving.build.dataset import SUFFIXES
from tapchanger_serving.build.failures import StepError
from tapchanger_serving.build.limits import Budget, Patience
from tapchanger_serving.build.sources.needed import fetch_needed
from tapchanger_serving.build.transport.http import RefusedError
from tapchanger_serving.build.transport.layers import ArchiveError, Layer, layers_of, unpack
from tapchanger_serving.build.transport.registry import (
    DOCKER_CONFIG,
    INDEXES,
    Registry,
    RegistryError,
    base_url,
    login_for,
)
from tapchanger_serving.build.weights import INDEX, is_pickle

_REFERENCE = re.compile(
    r"(?P<host>[A-Za-z0-9.-]+(?::\d+)?|\[::1\]:\d+)/(?P<repository>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)(?::(?P<tag>\w[\w.-]{0,127}))?"
)
T = TypeVar("T")

_CONFIG = "config.json"
_DEEPEST = 4
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_DENIED = (401, 403)


@dataclass(frozen=True, slots=True)
class OciSource:
    """A manifest in a repository. `pin` is its digest; the tag is only for people where there is one."""

    uri: str
    host: str
    repository: str
    tag: str
    pin: str | None
    field: str
    tree_pin: str | None = None

    @classmethod
    def parse(cls, uri: str, rest: str, *, pin: str | None, field: str) -> OciSource:
        """Reads the part after `oci://`, without the pin."""
        parts = _REFERENCE.fullmatch(rest)
        if parts is None:
            remedy = "write oci://registry/repository:tag or oci://registry/repository@sha256:<hex>"
            raise StepError("UriInvalid", f"{uri!r} names no artifact in a registry", field=field, remedy=remedy)
        return cls(uri, parts["host"], parts["repository"], parts["tag"] or "latest", pin, field)

    @property
    def remote(self) -> bool:
        """See :class:`tapchanger_serving.build.sources.base.Source`."""
        return True

    def version(self) -> str | None:
        """The manifest's digest."""
        return self.pin or self._told(lambda registry: registry.manifest(self.tag)[0])

    def folder(self, scratch: Path) -> Path:
        """See :class:`tapchanger_serving.build.sources.base.Source`."""
        target = scratch / "artifact"
        target.mkdir(parents=True)
        self._told(lambda registry: _Artifact(registry, self._layers(registry)).checkpoint(target, scratch))
        return _checkpoint_in(target)

    def file(self, scratch: Path) -> Path:
        """See :class:`tapchanger_serving.build.sources.base.Source`."""
        target = scratch / "data"
        target.mkdir(parents=True)
        found = self._told(lambda registry: _Artifact(registry, self._layers(registry)).data(target, scratch))
        if len(found) != 1:
            names = ", ".join(path.name for path in found) or "none"
            raise StepError(
                "DatasetNotFound",
                f"{self.uri} must hold one file in {' or '.join(SUFFIXES)}, and holds {names}",
                field=self.field,
                remedy="push the data file as an artifact of its own: oras push REGISTRY/REPOSITORY:TAG data.csv",
            )
        return found[0]

    def _layers(self, registry: Registry) -> list[Layer]:
        _, manifest = registry.manifest(self.pin or self.tag)
        if manifest.get("mediaType") in INDEXES or "manifests" in manifest:
            _, manifest = registry.manifest(_for_this_machine(manifest))
        layers = layers_of(manifest)
        registry.budget.listed(len(layers))
        return layers

    def _told(self, action: Callable[[Registry], T]) -> T:
        """What `action` gives for the opened repository; errors are told in the user's words."""
        budget = Budget(self.uri, self.field)
        config = os.environ.get(DOCKER_CONFIG)
        try:
            url = base_url(self.host, os.environ.get("OCI_PLAIN_HTTP", ""))
            login = login_for(self.host, Path(config) if config else None)
            registry = Registry(url, self.repository, login, budget, Patience(budget))
            with registry.client:
                return action(registry)
        except RefusedError as error:
            self._refused(error)
        except ArchiveError as error:
            raise self._failure("ArchiveInvalid", str(error), "pack it again and push it") from error
        except (RegistryError, ValueError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._failure("DownloadFailed", str(error), "check the registry and the artifact") from error

    def _refused(self, error: RefusedError) -> NoReturn:
        if error.status in _DENIED:
            remedy = (
                "name a Secret of type kubernetes.io/dockerconfigjson that may pull it in "
                "spec.model.credentials.secretName; many registries answer like this where there is no such repository"
            )
            raise self._failure("AccessDenied", f"the registry does not let the build in ({error})", remedy) from error
        if error.status == 404:
            missing = "DatasetNotFound" if self.field.startswith("spec.engine") else "ModelNotFound"
            what = f"the registry has no such repository or no such tag ({error})"
            raise self._failure(missing, what, "check the name and the tag") from error
        raise self._failure("DownloadFailed", str(error), "check the registry and the artifact") from error

    def _failure(self, reason: str, what: str, remedy: str) -> StepError:
        return StepError(reason, f"{self.uri}: {what}", field=self.field, remedy=remedy)


@dataclass(frozen=True, slots=True)
class _Artifact:
    """The layers of one manifest, and where to get them."""

    registry: Registry
    layers: Sequence[Layer]

    def checkpoint(self, target: Path, scratch: Path) -> None:
        """Puts what a checkpoint needs into `target`, with the paths that it has in the artifact."""
        files = {layer.name: layer for layer in self.layers if layer.name is not None}
        for folder in _folders(files):
            prefix = f"{folder}/" if folder else ""
            names = {name.removeprefix(prefix): layer for name, layer in files.items() if name.startswith(prefix)}
            (target / folder).mkdir(parents=True, exist_ok=True)
            self._fetch_needed(names, target / folder)
        self._unpack(target, scratch, _matters)

    def _fetch_needed(self, files: Mapping[str, Layer], target: Path) -> None:
        fetch_needed(files, lambda name: self._fetch(files[name], target / name), target)

    def data(self, target: Path, scratch: Path) -> list[Path]:
        """Puts the data files into `target`."""
        for layer in self.layers:
            if layer.name is not None and layer.name.endswith(SUFFIXES):
                self._fetch(layer, target / layer.name)
        self._unpack(target, scratch, lambda name: name.endswith(SUFFIXES))
        return sorted(path for path in target.rglob("*") if path.is_file())

    def _fetch(self, layer: Layer, target: Path) -> None:
        self.registry.blob(layer.digest, layer.size, target)

    def _unpack(self, target: Path, scratch: Path, wanted: Callable[[str], bool]) -> None:
        for layer in self.layers:
            if layer.name is None:
                archive = scratch / "layer"
                self._fetch(layer, archive)
                unpack(archive, target, wanted, self.registry.budget)
                archive.unlink()


def _folders(files: Collection[str]) -> list[str]:
    """Folders of the artifact that hold a config.json; the top where there is none."""
    found = {str(PurePosixPath(name).parent) for name in files if PurePosixPath(name).name == _CONFIG}
    tops = {folder for folder in found if PurePosixPath(folder).name != "1_Pooling"} or {"."}
    return sorted("" if folder == "." else folder for folder in tops)


def _matters(path: str) -> bool:
    """Whether a file in an archive may belong to a checkpoint."""
    name = PurePosixPath(path).name
    parts = PurePosixPath(path).parts
    known = name in DESCRIPTIONS or name == INDEX or "/".join(parts[-2:]) in DESCRIPTIONS
    return len(parts) <= _DEEPEST + 1 and (known or name.endswith(".safetensors") or is_pickle(name))


def _checkpoint_in(folder: Path) -> Path:
    """The folder nearest to the top that holds a config.json: images put the checkpoint below /models."""
    configs = [path for path in folder.rglob(_CONFIG) if path.parent.name != "1_Pooling"]
    return min((path.parent for path in configs), key=lambda path: (len(path.parts), str(path)), default=folder)


def _for_this_machine(index: Mapping[str, Any]) -> str:
    """Of the manifests of an index, the one for Linux on this machine's architecture, or the only one."""
    try:
        entries = [entry for entry in index["manifests"] if (entry.get("platform") or {}).get("os") != "unknown"]
        machine = _ARCHITECTURES.get(platform.machine(), platform.machine())
        fitting = [entry for entry in entries if (entry.get("platform") or {}).get("architecture") == machine]
        chosen = fitting or entries
        return str(chosen[0]["digest"])
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise RegistryError("the index names no manifest") from error
