"""What serves: each revision's servers, and the router before them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tapchanger_operator import names
from tapchanger_operator.kube import Object
from tapchanger_operator.names import Ref
from tapchanger_operator.observe import incompatible
from tapchanger_operator.observe import pods as pod_facts
from tapchanger_operator.resolve.identity import RevisionContent
from tapchanger_operator.snapshot import Node, RouterSeen, Servers


def servers(
    live: Mapping[Ref, Mapping[str, Any]],
    pods: Sequence[Object],
    contents: Mapping[str, RevisionContent],
    nodes: Sequence[Node] | None,
) -> dict[str, Servers]:
    """The servers of each revision; `nodes` tell what they can run on."""
    found = {}
    for ref, item in live.items():
        labels = item["metadata"].get("labels", {})
        revision = labels.get(names.LABEL_REVISION)
        if ref.kind != "Deployment" or revision is None:
            continue
        status, wanted = item.get("status", {}), item["spec"].get("replicas", 1)
        mine = [pod for pod in pods if pod["metadata"]["labels"].get(names.LABEL_REVISION) == revision]
        trouble = incompatible.explained(pod_facts.trouble(mine), contents.get(revision), nodes or ())
        current = status.get("observedGeneration", 0) >= item["metadata"]["generation"]
        found[revision] = Servers(
            replicas=wanted,
            ready=status.get("readyReplicas", 0),
            available=current and status.get("availableReplicas", 0) >= max(wanted, 1),
            trouble=f"{trouble.reason}: {trouble.message}" if trouble else None,
            reason=trouble.reason if trouble else None,
            damage=pod_facts.damage(mine),
        )
    return found


def router(pods: Sequence[Object]) -> RouterSeen:
    """The router's pods, and which configuration each was told of."""
    mine = [pod for pod in pods if pod["metadata"]["labels"].get(names.LABEL_COMPONENT) == names.COMPONENT_ROUTER]
    alive = [
        pod
        for pod in mine
        if "deletionTimestamp" not in pod["metadata"] and pod.get("status", {}).get("phase") == "Running"
    ]
    ready = [pod for pod in alive if _is_ready(pod)]
    annotation = names.ANNOTATION_ROUTER_CONFIG
    told = {pod["metadata"]["name"]: pod["metadata"].get("annotations", {}).get(annotation) for pod in alive}
    return RouterSeen(ready=len(ready), told=told)


def _is_ready(pod: Mapping[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", []))
