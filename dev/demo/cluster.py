"""Which cluster the demonstration uses: the person's, where somebody sits there to say so, else its own."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from dev.cluster import paths as places
from dev.common import stack as stacks
from dev.common.kubectl import Kubectl
from dev.common.shell import CommandError, run
from dev.common.stack import Stack
from dev.common.waiting import until

UPLOADER = "tapchanger-demo-upload"


def chosen(context: str | None) -> Stack:
    """The stack of `context`, of the person's current context if they agree, or of this machine's own cluster."""
    paths = places.from_environment()
    current = context or _asked(paths)
    if current is None:
        return stacks.own_stack()
    return Stack(paths.home, Kubectl(_kubectl(paths), context=current), own=False)


def registry_for(stack: Stack, given: str | None) -> str | None:
    """Where images are pushed for the stack's cluster; None for the own cluster's registry.

    Raises:
        ValueError: the cluster is the person's and no registry is known.
    """
    if stack.own or given:
        return given
    if not sys.stdin.isatty():
        raise ValueError("a cluster of your own needs a registry that its nodes pull from: write --registry HOST/PATH")
    return input("Registry to push the images to, from which the cluster's nodes pull (HOST/PATH): ").strip()


def upload_models(stack: Stack, namespace: str, names: tuple[str, ...]) -> None:
    """Puts checkpoints on a claim `models` of the person's cluster, through a pod that mounts it."""
    kubectl = stack.kubectl
    kubectl.apply(_claim(namespace), _uploader(namespace, stack.images["builder"]))
    until("the uploading pod", lambda: _runs(kubectl, namespace), 300, every=1.0)
    for name in names:
        source = stack.models / name
        kubectl("cp", "--retries=3", str(source), f"{namespace}/{UPLOADER}:/models/{name}", seconds=600)
    kubectl.delete("pod", UPLOADER, namespace)


def _asked(paths: places.Paths) -> str | None:
    binary = _kubectl(paths)
    if not sys.stdin.isatty() or not binary.exists():
        return None
    try:
        context = run(binary, "config", "current-context").strip()
        servers = json.loads(run(binary, "config", "view", "--minify", "-o", "json"))["clusters"]
    except CommandError:
        return None
    own = paths.kubeconfig.exists() and servers[0]["cluster"]["server"] in paths.kubeconfig.read_text()
    if own:
        return None
    answer = input(f"Use the cluster of kube context {context!r}? A cluster of its own is made otherwise. [y/N] ")
    return context if answer.strip().lower() in ("y", "yes") else None


def _kubectl(paths: places.Paths) -> Path:
    own = paths.bin / "kubectl"
    return own if own.exists() else Path(shutil.which("kubectl") or own)


def _runs(kubectl: Kubectl, namespace: str) -> bool:
    pod = kubectl.get("pod", UPLOADER, namespace)
    return bool(pod) and pod["status"].get("phase") == "Running"  # type: ignore[index]


def _claim(namespace: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": stacks.CLAIM, "namespace": namespace},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}},
    }


def _uploader(namespace: str, image: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": UPLOADER, "namespace": namespace},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "upload",
                    "image": image,
                    "command": ["sleep", "3600"],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "models", "mountPath": "/models"}],
                }
            ],
            "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": stacks.CLAIM}}],
        },
    }
