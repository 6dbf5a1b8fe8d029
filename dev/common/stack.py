"""Everything below a TransformerDeployment: cluster, images, checkpoints and the chart, each made only where it is missing."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dev.cluster import paths as places
from dev.common.kubectl import Kubectl
from dev.common.shell import ROOT, run, show

SYSTEM: Final = "tapchanger-system"
RELEASE: Final = "tapchanger"
CHART: Final = ROOT / "charts" / "tapchanger"
CRDS: Final = ("transformerdeployments.tapchanger.dev", "enginebuilds.tapchanger.dev")
CLAIM: Final = "models"
IMAGES: Final = ("operator", "builder", "server", "router", "observer", "capture")


@dataclass(frozen=True)
class Stack:
    """A cluster and where its parts come from. `own` tells whether it is this machine's own cluster."""

    home: Path
    kubectl: Kubectl
    own: bool

    @property
    def models(self) -> Path:
        """The folder of checkpoints; behind the claim `models` where the cluster is this machine's own."""
        return self.home / "models"

    @property
    def images(self) -> dict[str, str]:
        """Name → reference of each image that was built and pushed.

        Raises:
            ValueError: the list is incomplete.
        """
        found = json.loads((self.home / "images.json").read_text())
        missing = [name for name in IMAGES if not found.get(name)]
        if missing:
            raise ValueError(f"{self.home / 'images.json'} lacks {', '.join(missing)}; run `make images`")
        return {name: found[name] for name in IMAGES}


def own_stack() -> Stack:
    """This machine's own cluster, whether or not it runs."""
    paths = places.from_environment()
    return Stack(paths.home, Kubectl(paths.bin / "kubectl", paths.kubeconfig), own=True)


def start_cluster() -> None:
    """Starts or repairs this machine's own cluster; a healthy one is left alone."""
    show("python3", "-m", "dev.cluster", "up")


def build_images(registry: str | None = None) -> None:
    """Builds and pushes what changed; `registry` None is the one of this machine's own cluster."""
    where = ["--registry", registry] if registry else []
    show(sys.executable, "-m", "dev.images", "build", *where)


def make_models(stack: Stack) -> None:
    """Makes the checkpoints that are missing."""
    show(sys.executable, "-m", "dev.fixtures", stack.models)


def install(stack: Stack, values: Mapping[str, Any] | None = None) -> None:
    """Installs or upgrades the chart and waits until it is up."""
    given = json.dumps({"images": stack.images, **(values or {})})
    _forget_interrupted(stack)
    command = ["upgrade", "--install", RELEASE, str(CHART), "--namespace", SYSTEM, "--create-namespace"]
    # Definitions that somebody applied by hand are taken over.
    flags = ["--take-ownership", "--force-conflicts", "--values", "-", "--wait", "--timeout", "5m"]
    helm(stack, *command, *flags, text=given)


def _forget_interrupted(stack: Stack) -> None:
    """Removes the record of an installation that was killed half-way, which Helm takes for one that is still going on."""
    for status in ("pending-install", "pending-upgrade", "pending-rollback", "uninstalling"):
        selector = f"owner=helm,name={RELEASE},status={status}"
        for secret in stack.kubectl.items("secrets", SYSTEM, selector):
            stack.kubectl.delete("secret", secret["metadata"]["name"], SYSTEM)


def helm(stack: Stack, *words: str, text: str | None = None) -> str:
    """Standard output of `helm WORDS` on the stack's cluster."""
    kubectl = stack.kubectl
    where = ["--kubeconfig", str(kubectl.kubeconfig)] if kubectl.kubeconfig else []
    which = ["--kube-context", kubectl.context] if kubectl.context else []
    return run(stack.home / "bin" / "helm", *words, *where, *which, text=text, seconds=400)


def namespace_with_models(stack: Stack, namespace: str) -> None:
    """A namespace whose claim `models` is the same folder as that of `default`."""
    stack.kubectl.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        *_models_volume(namespace, stack.models),
    )


def remove_namespace(stack: Stack, namespace: str, *, wait: bool = True) -> None:
    """Deletes what :func:`namespace_with_models` made, and waits until it is gone unless told otherwise."""
    stack.kubectl.delete("namespace", namespace, wait=wait)
    stack.kubectl.delete("persistentvolume", f"{CLAIM}-{namespace}", wait=wait)


def _models_volume(namespace: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    name, size = f"{CLAIM}-{namespace}", {"storage": "1Ti"}
    common = {"accessModes": ["ReadWriteMany", "ReadOnlyMany"], "storageClassName": ""}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            **common,
            "capacity": size,
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(folder), "type": "Directory"},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": CLAIM},
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM, "namespace": namespace},
        "spec": {**common, "volumeName": name, "resources": {"requests": size}},
    }
    return volume, claim
