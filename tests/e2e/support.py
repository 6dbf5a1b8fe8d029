"""What the tests write in few words: a small deployment, a build's report, who is in the namespace."""

from __future__ import annotations

from typing import Any

from dev.common.deployment import Deployment
from dev.common.kubectl import Kubectl
from dev.load import Load, Plan

NAMESPACE = "e2e"
"""Where most tests have their deployments: builds belong to a namespace, so that one for each test would build all anew."""

SMALL = {"requests": {"cpu": "50m", "memory": "256Mi"}}


def described(kubectl: Kubectl, namespace: str, name: str, uri: str, **spec: Any) -> Deployment:
    """A small deployment of `pvc://models/URI`; `spec` adds fields to its spec, and `task` names another task."""
    task = spec.pop("task", "text-classification")
    manifest = {
        "apiVersion": "tapchanger.dev/v1alpha1",
        "kind": "TransformerDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"uri": uri if "://" in uri else f"pvc://models/{uri}", "task": task},
            "serving": {"template": {"resources": SMALL, "buildResources": SMALL}},
            "router": {"replicas": 1},
            **spec,
        },
    }
    return Deployment(kubectl, manifest)


def load_on(deployment: Deployment, texts: list[str], rate: float = 20.0) -> Load:
    """Steady requests to the deployment's routers while it is entered; they end with the test at the latest."""
    address, _ = deployment.address()
    return Load(Plan(address, "grpc", deployment.name, tuple(texts), rate, seconds=900.0, allow_remote=True))


def report(kubectl: Kubectl, deployment: Deployment) -> dict[str, Any]:
    """The build's report, and in `chosen` the candidate that serves."""
    build = kubectl.get("eb", deployment.status()["target"]["build"], deployment.namespace)
    if build is None:
        raise LookupError(f"{deployment.name} has no build")
    found = build["status"]["report"]
    kind = (found["runtime"], found["precision"])
    return {**found, "chosen": next(c for c in found["candidates"] if (c["runtime"], c["precision"]) == kind)}
