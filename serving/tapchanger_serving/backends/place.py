"""Where Triton put the model that an instance serves."""

from __future__ import annotations

from pathlib import Path

from tapchanger_serving.contract.artifact import MANIFEST, Artifact


def read(arguments: dict[str, str]) -> tuple[Artifact, Path]:
    """Artifact and folder of the model version, from what Triton gives to `initialize`."""
    folder = Path(arguments["model_repository"]) / arguments["model_version"]
    return Artifact.model_validate_json((folder / MANIFEST).read_bytes()), folder
