"""What gateways say of a deployment's routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tapchanger_operator import names
from tapchanger_operator.api import reasons
from tapchanger_operator.api.spec import ParentRef, RouterSpec
from tapchanger_operator.kube import Kube, Object
from tapchanger_operator.names import Owner, Ref
from tapchanger_operator.snapshot import RoutesSeen, Trouble

_KINDS: Final = ("HTTPRoute", "GRPCRoute")
_WANTED: Final = ("Accepted", "ResolvedRefs")
_PASSES: Final = frozenset({"BackendNotFound", "Pending"})
"""Reasons of a gateway that go by themselves: it has not seen a Service yet, or is at work."""
_INSTALL: Final = (
    "install the Gateway API's definitions (https://gateway-api.sigs.k8s.io/guides/getting-started/, standard channel, "
    "1.2 or newer) and a gateway that implements it, or write router.type: Envoy"
)


@dataclass(frozen=True)
class _Said:
    """What one gateway says of one route. `told`: it serves the route as it is now."""

    told: bool = False
    trouble: Trouble | None = None
    refused: bool = False


def find(
    kube: Kube, owner: Owner, spec: RouterSpec, service: Mapping[str, Any] | None
) -> tuple[list[Object], frozenset[str]]:
    """The deployment's routes, and the kinds of route that the cluster does not have.

    Asked only where there may be some: the spec wants them, or `service`, the deployment's, is marked.
    """
    marked = service is not None and names.ANNOTATION_ROUTES in service["metadata"].get("annotations", {})
    if spec.type != "GatewayAPI" and not marked:
        return [], frozenset()
    selector = f"{names.LABEL_DEPLOYMENT}={owner.name}"
    found = {kind: kube.items_if_known(kind, owner.namespace, selector) for kind in _KINDS}
    items = [item for some in found.values() for item in some or ()]
    return items, frozenset(kind for kind, some in found.items() if some is None)


def seen(owner: Owner, spec: RouterSpec, items: Sequence[Object], missing: frozenset[str]) -> RoutesSeen:
    """Whether every gateway that `spec` names serves the routes, and what the first one says that doesn't."""
    if spec.type != "GatewayAPI":
        return RoutesSeen(missing=missing)
    wanted = _KINDS if spec.grpc_hostnames else _KINDS[:1]
    absent = [kind for kind in wanted if kind in missing]
    if absent:
        message = f"the cluster does not know the kind {' and '.join(absent)}; {_INSTALL}"
        return RoutesSeen(trouble=Trouble(reasons.GATEWAY_API_MISSING, message), refused=True, missing=missing)
    by_ref = {Ref.of(item): item for item in items}
    routes = [by_ref.get(Ref(kind, owner.namespace, owner.name)) for kind in wanted]
    said = [_said(route, parent) for route in routes if route for parent in spec.parent_refs]
    if None in routes:
        return RoutesSeen(trouble=Trouble(reasons.ROUTE_NOT_ACCEPTED, "the routes are being made"), missing=missing)
    troubles = [one for one in said if one.trouble]
    if not troubles:
        return RoutesSeen(told=bool(said) and all(one.told for one in said), missing=missing)
    worst = next((one for one in troubles if one.refused), troubles[0])
    return RoutesSeen(told=False, trouble=worst.trouble, refused=worst.refused, missing=missing)


def _said(route: Object, parent: ParentRef) -> _Said:
    kind, namespace = route["kind"], route["metadata"]["namespace"]
    where = f"Gateway {parent.namespace or namespace}/{parent.name}"
    entries = [
        e for e in route.get("status", {}).get("parents", []) if _names(e.get("parentRef", {}), parent, namespace)
    ]
    if not entries:
        message = f"no controller has answered for {where} to the {kind}; does the Gateway exist, and does its controller run?"
        return _Said(trouble=Trouble(reasons.ROUTE_NOT_ACCEPTED, message))
    said = [_of_entry(entry, route["metadata"]["generation"], f"{where} to the {kind}") for entry in entries]
    return next((one for one in said if one.told), said[0])


def _of_entry(entry: Mapping[str, Any], generation: int, where: str) -> _Said:
    conditions = {c["type"]: c for c in entry.get("conditions", [])}
    bad = next((c for kind in _WANTED if (c := conditions.get(kind)) and c["status"] == "False"), None)
    if bad:
        message = f"{where}: {bad['type']} is False, {bad.get('reason')}: {bad.get('message') or 'no message'}"
        return _Said(trouble=Trouble(reasons.ROUTE_NOT_ACCEPTED, message), refused=bad.get("reason") not in _PASSES)
    told = all(_holds(conditions.get(kind), generation) for kind in _WANTED)
    return _Said(told=told)


def _holds(condition: Mapping[str, Any] | None, generation: int) -> bool:
    return (
        condition is not None and condition["status"] == "True" and condition.get("observedGeneration", 0) >= generation
    )


def _names(reference: Mapping[str, Any], parent: ParentRef, namespace: str) -> bool:
    """Whether a status speaks of `parent`."""
    found = tuple(reference.get(field) for field in ("name", "sectionName", "port"))
    at = reference.get("namespace") or namespace
    return found == (parent.name, parent.section_name, parent.port) and at == (parent.namespace or namespace)
