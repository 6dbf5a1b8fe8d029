"""Folders and files that are mounted: a PersistentVolumeClaim, or a path of the container."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tapchanger_serving.build.failures import StepError


@dataclass(frozen=True, slots=True)
class LocalSource:
    """A path below `root`; symbolic links may not lead out of it."""

    uri: str
    path: Path
    root: Path
    tree_pin: str | None
    field: str

    @classmethod
    def in_claim(cls, uri: str, rest: str, claims: Path, *, tree_pin: str | None, field: str) -> LocalSource:
        """`pvc://CLAIM/path`: the claim is mounted at `claims/CLAIM`."""
        claim, _, inside = rest.partition("/")
        _refuse_climbing(uri, rest, field)
        root = claims / claim
        if not root.is_dir():
            raise StepError(
                "ModelNotFound",
                f"the claim {claim!r} is not mounted at {root}",
                field=field,
                remedy=f"check that the PersistentVolumeClaim {claim} exists in the deployment's namespace and is bound",
            )
        return cls(uri, root / inside, root, tree_pin, field)

    @classmethod
    def at_path(cls, uri: str, rest: str, *, tree_pin: str | None, field: str) -> LocalSource:
        """`file:///path`."""
        _refuse_climbing(uri, rest, field)
        if not rest.startswith("/"):
            raise StepError("UriInvalid", f"{uri!r} has no absolute path", field=field, remedy="write file:///path")
        return cls(uri, Path(rest), Path("/"), tree_pin, field)

    @property
    def remote(self) -> bool:
        """See :class:`tapchanger_serving.build.sources.base.Source`."""
        return False

    def version(self) -> str | None:
        """None: the files themselves are the quickest that there is."""
        return None

    def folder(self, scratch: Path) -> Path:  # noqa: ARG002 - nothing is downloaded
        """See :class:`tapchanger_serving.build.sources.base.Source`."""
        return self._existing(wanted="folder")

    def file(self, scratch: Path) -> Path:  # noqa: ARG002 - nothing is downloaded
        """See :class:`tapchanger_serving.build.sources.base.Source`."""
        return self._existing(wanted="file")

    def _existing(self, wanted: str) -> Path:
        found = self.path.resolve()
        if not found.is_relative_to(self.root.resolve()):
            raise StepError(
                "UriInvalid",
                f"{self.uri} leads out of its volume, to {found}",
                field=self.field,
                remedy="replace the symbolic link by a copy of what it points to",
            )
        if not (found.is_dir() if wanted == "folder" else found.is_file()):
            raise StepError(
                "ModelNotFound" if wanted == "folder" else "DatasetNotFound",
                f"{self.uri}: no {wanted} at this path; {self._neighbours()}",
                field=self.field,
                remedy=f"write the path of an existing {wanted}",
            )
        return found

    def _neighbours(self) -> str:
        parent = self.path.parent
        found = parent.iterdir() if parent.is_dir() else ()
        names = sorted(entry.name for entry in found if not entry.name.startswith("."))
        return f"beside it lie: {', '.join(names[:10])}" if names else "the folder above it is missing or empty"


def _refuse_climbing(uri: str, rest: str, field: str) -> None:
    if ".." in PurePosixPath(rest).parts:
        raise StepError("UriInvalid", f"{uri!r} contains '..'", field=field, remedy="write the plain path")
