"""Repositories of the Hugging Face Hub."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tapchanger_serving.build.failures import StepError

T = TypeVar("T")

_REPOSITORY = re.compile(r"(?P<name>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[\w./-]+))?")
WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "1_Pooling/*.json")
_NO_ACCESS = (401, 403)
_UNWANTED = ("onnx/*", "openvino/*", "coreml/*", "original/*")


@dataclass(frozen=True, slots=True)
class HubSource:
    """`hf://org/name@revision`. A token for private repositories comes from `HF_TOKEN`."""

    uri: str
    name: str
    revision: str | None
    tree_pin: str | None
    field: str

    @classmethod
    def parse(cls, uri: str, rest: str, *, tree_pin: str | None, field: str) -> HubSource:
        """Reads the part after `hf://`."""
        parts = _REPOSITORY.fullmatch(rest)
        if parts is None:
            raise StepError(
                "UriInvalid", f"{uri!r} names no repository", field=field, remedy="write hf://org/name@revision"
            )
        return cls(uri, parts["name"], parts["revision"], tree_pin, field)

    @property
    def remote(self) -> bool:
        """See :class:`tapchanger_serving.build.sources.base.Source`."""
        return True

    def version(self) -> str | None:
        """The commit that the revision points to."""

        def commit() -> str | None:
            from huggingface_hub import HfApi

            return HfApi().model_info(self.name, revision=self.revision, token=os.environ.get("HF_TOKEN")).sha

        return self._told(commit)

    def folder(self, scratch: Path) -> Path:
        """See :class:`tapchanger_serving.build.sources.base.Source`."""

        def snapshot() -> str:
            from huggingface_hub import snapshot_download

            return snapshot_download(
                self.name,
                revision=self.revision,
                local_dir=scratch / "snapshot",
                allow_patterns=list(WANTED),
                ignore_patterns=list(_UNWANTED),
                token=os.environ.get("HF_TOKEN"),
            )

        return Path(self._told(snapshot))

    def _told(self, action: Callable[[], T]) -> T:
        """What `action` gives; the Hub's errors are told in the user's words."""
        os.environ["HF_HUB_OFFLINE"] = "0"
        from httpx2 import HTTPError
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        try:
            return action()
        except (RepositoryNotFoundError, RevisionNotFoundError) as error:
            raise self._not_found() from error
        except (HTTPError, OSError) as error:
            response = getattr(error, "response", None)
            if response is not None and response.status_code in _NO_ACCESS:
                raise self._not_found() from error
            raise StepError(
                "DownloadFailed",
                f"{self.uri}: {_first_line(error)}",
                field=self.field,
                remedy="check that the Hub answers from inside the cluster, or copy the model to a claim: pvc://CLAIM/path",
            ) from error

    def _not_found(self) -> StepError:
        return StepError(
            "ModelNotFound",
            f"{self.uri}: the Hub has no such repository or revision, or the token may not read it",
            field=self.field,
            remedy="check the name, and if the repository is private or gated, name a Secret with HF_TOKEN in "
            "spec.model.credentials.secretName",
        )

    def file(self, scratch: Path) -> Path:  # noqa: ARG002 - the interface's
        """Not offered: data files come from a claim or from HTTPS."""
        raise StepError(
            "SourceUnsupported",
            f"{self.uri}: hf:// gives models, not data files",
            field=self.field,
            remedy="use the data file's https://… URL with @sha256:<hex>, or copy it to a claim",
        )


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
