"""The chart as Helm renders it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.patience import PATIENCE

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "tapchanger"
GOLDEN = ROOT / "tests" / "golden" / "chart"

Manifest = dict[str, Any]
Render = Callable[..., list[Manifest]]
Helm = Callable[..., subprocess.CompletedProcess[str]]

IMAGES = GOLDEN / "images.values.yaml"


@cache
def _helm_binary() -> str | None:
    home = Path(os.environ.get("TAPCHANGER_HOME") or Path.home() / ".cache" / "tapchanger")
    own = home / "bin" / "helm"
    return str(own) if own.exists() else shutil.which("helm")


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Run helm with the arguments given; the result is not checked."""
    binary = _helm_binary()
    if binary is None:
        pytest.fail(
            "the chart's tests need helm 3.14 or newer: `make cluster-up` puts it into $TAPCHANGER_HOME/bin, "
            "`go install helm.sh/helm/v4/cmd/helm@v4.3.1` into Go's bin folder, which must be on PATH",
            pytrace=False,
        )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        # No cluster and no user settings take part.
        environment = {**os.environ, "KUBECONFIG": os.devnull, "HELM_PLUGINS": os.devnull}
        return subprocess.run(
            [binary, *arguments], capture_output=True, text=True, check=False, env=environment, timeout=PATIENCE
        )

    return run


@pytest.fixture(scope="session")
def template(helm: Helm) -> Helm:
    """Run `helm template` on the chart with the test's images, unless `images=False`; the result is not checked."""

    def run(*arguments: str, images: bool = True) -> subprocess.CompletedProcess[str]:
        base = ["template", "tapchanger", str(CHART), "--namespace", "tapchanger-system", "--kube-version", "1.34.0"]
        return helm(*base, *(["--values", str(IMAGES)] if images else []), *arguments)

    return run


@pytest.fixture(scope="session")
def render(template: Helm) -> Render:
    """Objects of the rendered chart, in Helm's order."""

    def run(*arguments: str) -> list[Manifest]:
        done = template(*arguments)
        assert done.returncode == 0, done.stderr
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    return run


@pytest.fixture(scope="session")
def pod_specs(render: Render) -> list[Manifest]:
    """Pod specs of all workloads with everything switched on."""
    rendered = render("--values", str(GOLDEN / "everything.values.yaml"))
    found = [
        item["spec"]["template"]["spec"] for item in rendered if item["kind"] in {"Deployment", "Job", "StatefulSet"}
    ]
    assert len(found) == 2
    scale = render("--values", str(GOLDEN / "prometheus.values.yaml"))
    collector = next(item for item in scale if item["kind"] == "Deployment" and "collector" in item["metadata"]["name"])
    return [*found, collector["spec"]["template"]["spec"]]
