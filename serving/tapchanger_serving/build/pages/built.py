"""A finished build, as the page and the card see it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from tapchanger_serving.contract.artifact import Artifact
from tapchanger_serving.contract.messages import BuildReport, BuildRequest, Candidate, engine_title

Wire = dict[str, Any]

_LISTED = "import json; [print(f['sha256'], f['path'], sep='  ') for f in json.load(open('artifact.json'))['files']]"
VERIFICATION = ("sha256sum artifact.json", f'python3 -c "{_LISTED}" | sha256sum --check')
"""Commands that verify an artifact, in its folder: the manifest's digest, then every file against the manifest."""


@dataclass(frozen=True)
class Built:
    """What was asked for, what the artifact says of itself, and what the build found."""

    request: BuildRequest
    manifest: Artifact
    report: BuildReport

    @functools.cached_property
    def wire(self) -> Wire:
        """The report as JSON has it."""
        return self.report.model_dump(mode="json", by_alias=True, exclude_none=True)

    @property
    def model(self) -> str:
        """What the model is called: the last part of its address, without pins."""
        location = self.request.uri.partition("://")[2].split("@")[0]
        return location.rstrip("/").rpartition("/")[2] or self.request.uri

    @property
    def engine(self) -> str:
        """Runtime and precision, and whether it is a student."""
        return engine_title(self.report)

    def is_chosen(self, candidate: Candidate) -> bool:
        """Whether a candidate became the engine."""
        return engine_title(candidate) == self.engine
