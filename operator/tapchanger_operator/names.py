"""How the operator names the objects it makes, and the labels and annotations by which it finds them again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tapchanger_operator.api.base import API_VERSION

MANAGER: Final = "tapchanger"
"""Field manager of server-side apply."""

PASSED: Final = ("TransformerDeployment", "EngineBuild")
"""The kinds that the operator passes over."""

LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_DEPLOYMENT: Final = "tapchanger.dev/deployment"
LABEL_REVISION: Final = "tapchanger.dev/revision"
LABEL_BUILD: Final = "tapchanger.dev/build"

ANNOTATION_ROUTER_CONFIG: Final = "tapchanger.dev/router-config"
"""Hash of the router's configuration; changing it on a pod makes the kubelet refresh the mounted files at once."""

ANNOTATION_ROUTES: Final = "tapchanger.dev/routes"
"""On the deployment's Service while it may have routes at a gateway, so that they are looked for."""

COMPONENT_SERVER: Final = "server"
COMPONENT_ROUTER: Final = "router"
COMPONENT_INSPECT: Final = "inspect"
COMPONENT_PROBE: Final = "probe"
COMPONENT_BUILD: Final = "build"
COMPONENT_COLLECT: Final = "collect"
COMPONENT_DRIFT: Final = "drift"
DRIFT_HOURS: Final = "hours.json"
"""The key of the ConfigMap with what like hours looked like."""
COMPONENT_RETAIN: Final = "retain"
COMPONENT_REVISION: Final = "revision"
COMPONENT_RETRAIN: Final = "retrain"

STORE_CLAIM: Final = "tapchanger-artifacts"
LEASE: Final = "tapchanger-operator"


def content_hash(value: Any, length: int) -> str:
    """First `length` hexadecimal digits of the SHA-256 of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def content_digest(text: str) -> str:
    """`sha256:<hex>` of a text."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def retraining(deployment: str, run: str) -> str:
    """The Job and the ConfigMap of one run that trains a model anew."""
    return f"{deployment}-retrain-{run}"


def inspection(deployment: str, key: str) -> str:
    """The Job that inspects a deployment's model."""
    return f"{deployment}-inspect-{key[:8]}"


def poll(deployment: str, key: str) -> str:
    """The Job that asks a model's address for new content."""
    return f"{deployment}-poll-{key[:8]}"


def probe(deployment: str, key: str) -> str:
    """The Job that looks at the hardware of the nodes anew."""
    return f"{deployment}-probe-{key[:8]}"


def collection(number: int) -> str:
    """The Job that collects a namespace's store on one day."""
    return f"tapchanger-collect-{number}"


def retention(deployment: str, prefix: str, number: int) -> str:
    """The Job that deletes what is too old of the texts captured at one place, on one day."""
    return f"{deployment}-retain-{content_hash(prefix, 6)}-{number}"


def server(deployment: str, revision: str) -> str:
    """The Deployment, Service and ControllerRevision of one revision."""
    return f"{deployment}-{revision}"


def backend(deployment: str, revision: str) -> str:
    """The Service by which a gateway reaches one revision."""
    return f"{server(deployment, revision)}-gateway"


def drift_hours(deployment: str) -> str:
    """The ConfigMap with what like hours looked like."""
    return f"{deployment}-drift-hours"


def router(deployment: str) -> str:
    """The router's Deployment and ConfigMap; its Service is named like the deployment."""
    return f"{deployment}-router"


@dataclass(frozen=True)
class Ref:
    """One object by kind, namespace (empty for those of the whole cluster) and name."""

    kind: str
    namespace: str
    name: str

    @staticmethod
    def of(manifest: Mapping[str, Any]) -> Ref:
        """The object that `manifest` describes."""
        meta = manifest["metadata"]
        return Ref(manifest["kind"], meta.get("namespace", ""), meta["name"])


@dataclass(frozen=True)
class Owner:
    """The object that everything rendered belongs to; when it goes, they go."""

    kind: str
    name: str
    namespace: str
    uid: str

    def reference(self, *, controller: bool = True) -> dict[str, Any]:
        """As an entry of `metadata.ownerReferences`."""
        reference = {"apiVersion": API_VERSION, "kind": self.kind, "name": self.name, "uid": self.uid}
        return {**reference, "controller": True} if controller else reference


def concerned(ref: Ref, meta: Mapping[str, Any]) -> Iterator[Ref]:
    """Whose passes look at the object `ref`, of which `meta` is the metadata: its own and its owners', or that of the
    deployment or the build that it is a part of.
    """
    labels = meta.get("labels") or {}
    if ref.kind in PASSED:
        yield ref
        for owner in meta.get("ownerReferences") or ():
            if owner["kind"] in PASSED:
                yield Ref(owner["kind"], ref.namespace, owner["name"])
    elif LABEL_DEPLOYMENT in labels:
        yield Ref("TransformerDeployment", ref.namespace, labels[LABEL_DEPLOYMENT])
    elif LABEL_BUILD in labels:
        yield Ref("EngineBuild", ref.namespace, labels[LABEL_BUILD])
