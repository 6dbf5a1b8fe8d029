"""What all rendered objects share: owner, labels and the security context."""

from __future__ import annotations

from typing import Any, Final

from tapchanger_operator import names
from tapchanger_operator.names import Owner
from tapchanger_serving.contract import names as contract

Manifest = dict[str, Any]

USER: Final = 65532

POD_SECURITY: Final[Manifest] = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: Final[Manifest] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}

DRAIN_SECONDS: Final = 15
"""How long a pod goes on serving after it has left the Service, so that whoever calls it has noticed."""
OBSERVER_TOKEN: Final = "observer-token"  # noqa: S105 - a volume's name
OBSERVER_TOKEN_PATH: Final = f"{contract.OBSERVER_TOKEN_DIR}/{contract.OBSERVER_TOKEN_FILE}"
OBSERVER_TOKEN_SECONDS: Final = 3_600
"""How long a token is good; the kubelet renews it after four fifths of that."""


def labels(owner: Owner, component: str, **extra: str) -> dict[str, str]:
    """Labels of an object of `owner`; `extra` holds further `tapchanger.dev/` labels by their last part."""
    key = names.LABEL_DEPLOYMENT if owner.kind == "TransformerDeployment" else names.LABEL_BUILD
    own = {names.LABEL_MANAGED_BY: names.MANAGER, names.LABEL_COMPONENT: component, key: owner.name}
    return {**own, **{f"tapchanger.dev/{name}": value for name, value in extra.items()}}


def metadata(owner: Owner, name: str, object_labels: dict[str, str], **annotations: str) -> Manifest:
    """Metadata of an object that `owner` controls."""
    meta: Manifest = {
        "name": name,
        "namespace": owner.namespace,
        "labels": object_labels,
        "ownerReferences": [owner.reference()],
    }
    return {**meta, "annotations": annotations} if annotations else meta


def empty_dir(name: str, *, memory: bool = False, size: str | None = None) -> Manifest:
    """A scratch volume."""
    settings: Manifest = {**({"medium": "Memory"} if memory else {}), **({"sizeLimit": size} if size else {})}
    return {"name": name, "emptyDir": settings}


def mount(name: str, path: str, *, read_only: bool = False) -> Manifest:
    """A volume mount."""
    return {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}


def node_affinity(ways: list[list[Manifest]], user: Manifest) -> Manifest:
    """The user's affinity, and of every node that it may choose one of `ways`: expressions that all must hold."""
    node = dict(user.get("nodeAffinity", {}))
    required = node.get("requiredDuringSchedulingIgnoredDuringExecution", {"nodeSelectorTerms": [{}]})
    terms = [
        {**term, "matchExpressions": [*term.get("matchExpressions", []), *way]}
        for term in required["nodeSelectorTerms"]
        for way in ways
    ]
    node["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": terms}
    return {**user, "nodeAffinity": node}


def preferring(expressions: list[Manifest], affinity: Manifest) -> Manifest:
    """The affinity, with nodes liked best that meet all of `expressions`."""
    node = affinity.get("nodeAffinity", {})
    field = "preferredDuringSchedulingIgnoredDuringExecution"
    liked = {"weight": 100, "preference": {"matchExpressions": expressions}}
    return {**affinity, "nodeAffinity": {**node, field: [*node.get(field, []), liked]}}


def spread(selector: dict[str, str]) -> list[Manifest]:
    """Pods prefer different nodes, without insisting on it."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector},
        }
    ]


def observer_token() -> Manifest:
    """Volume with a token by which the observer knows the pod's namespace. The kubelet renews it; nothing else accepts it."""
    token = {
        "path": contract.OBSERVER_TOKEN_FILE,
        "audience": contract.OBSERVER_AUDIENCE,
        "expirationSeconds": OBSERVER_TOKEN_SECONDS,
    }
    return {"name": OBSERVER_TOKEN, "projected": {"sources": [{"serviceAccountToken": token}]}}
