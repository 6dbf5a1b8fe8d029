"""Where things lie in a store, as paths relative to it."""

from __future__ import annotations

ARTIFACTS, REPORTS = "artifacts", "reports"


def artifact_path(digest: str) -> str:
    """The folder of the artifact `sha256:<hex>`."""
    return f"{ARTIFACTS}/{digest.replace(':', '-')}"


def report_path(name: str) -> str:
    """The complete report of the build `name`; beside it lie the page for people (.html) and the model card (.md)."""
    return f"{REPORTS}/{name}.json"
