"""Rendered manifests against tests/golden/chart. `UPDATE_GOLDEN=1 pytest tests/unit/chart` rewrites them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Manifest = dict[str, Any]
Render = Callable[..., list[Manifest]]
Helm = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "chart"
CASES: dict[str, list[str]] = {
    "default": [],
    "everything": [
        "--values", str(GOLDEN / "everything.values.yaml"),
        "--api-versions", "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy",
    ],
    "prometheus": ["--values", str(GOLDEN / "prometheus.values.yaml")],
}  # fmt: skip


def dumped(manifests: list[Manifest]) -> str:
    """YAML that doesn't depend on the version of Helm; definitions are compared with their sources elsewhere."""
    kept = [item for item in manifests if item["kind"] != "CustomResourceDefinition"]
    kept.sort(key=lambda item: (item["kind"], item["metadata"]["name"]))
    return yaml.safe_dump_all(kept, sort_keys=True, width=120)


@pytest.mark.parametrize("case", CASES)
def test_rendered_manifests_are_the_golden_ones(case: str, render: Render) -> None:
    found = dumped(render(*CASES[case]))
    golden = GOLDEN / f"{case}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(found)
    assert golden.exists(), f"{golden} is missing; write it with UPDATE_GOLDEN=1"
    assert found == golden.read_text(), f"{golden} is stale; if the change is wanted, run with UPDATE_GOLDEN=1"


def test_no_golden_file_is_left_of_a_removed_case() -> None:
    wanted = {f"{case}.yaml" for case in CASES} | {
        "images.values.yaml",
        "everything.values.yaml",
        "prometheus.values.yaml",
    }
    assert {path.name for path in GOLDEN.iterdir()} == wanted


def test_notes_tell_what_to_do_next(helm: Helm) -> None:
    done = helm(
        "install", "tapchanger", str(ROOT / "charts" / "tapchanger"), "--namespace", "tapchanger-system",
        "--values", str(GOLDEN / "images.values.yaml"), "--dry-run=client",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    for words in (
        "kubectl apply -f -",
        "kind: TransformerDeployment",
        "kubectl get tdep",
        "kubectl -n tapchanger-system wait",
        "ReadWriteMany",
    ):
        assert words in notes
