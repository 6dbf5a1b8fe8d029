"""The examples' manifests are what the operator takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tapchanger_operator.api.spec import TransformerDeploymentSpec

EXAMPLES = Path(__file__).parents[3] / "examples"
MANIFESTS = sorted(EXAMPLES.glob("*/*.yaml"))


def test_there_are_manifests() -> None:
    assert {path.stem for path in MANIFESTS} >= {"moderation", "embedding"}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_is_a_valid_deployment_named_after_its_file(path: Path) -> None:
    manifest = yaml.safe_load(path.read_text())
    assert manifest["apiVersion"] == "tapchanger.dev/v1alpha1"
    assert manifest["metadata"] == {"name": path.stem}
    TransformerDeploymentSpec.model_validate(manifest["spec"])
