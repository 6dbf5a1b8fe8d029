"""The routes of a gateway that the team already runs: the same split as Envoy's, as HTTPRoute and GRPCRoute.

See docs/adr/0011-routes-on-a-gateway.md for how several deployments on one Gateway are told apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tapchanger_operator import names
from tapchanger_operator.api.spec import RouterSpec
from tapchanger_operator.names import Owner, Ref
from tapchanger_operator.plan.common import Manifest, labels, metadata
from tapchanger_operator.plan.envoy_routes import REQUEST_TIMEOUT
from tapchanger_operator.plan.split import Split
from tapchanger_serving.contract import names as contract

API_VERSION: Final = "gateway.networking.k8s.io/v1"
KINDS: Final = ("HTTPRoute", "GRPCRoute")
Live = Mapping[Ref, Mapping[str, Any]]


@dataclass(frozen=True)
class Attachment:
    """Where routes are attached and which names lead to them. `parents` are `parentRefs` as the API server keeps them."""

    parents: tuple[Manifest, ...]
    hostnames: tuple[str, ...] = ()
    grpc_hostnames: tuple[str, ...] = ()

    @staticmethod
    def of(spec: RouterSpec) -> Attachment:
        """As a spec asks for it."""
        parents = [{"group": "gateway.networking.k8s.io", "kind": "Gateway", **ref.wire()} for ref in spec.parent_refs]
        return Attachment(tuple(parents), tuple(spec.hostnames), tuple(spec.grpc_hostnames))

    @staticmethod
    def seen(owner: Owner, live: Live) -> Attachment | None:
        """As the deployment's routes have it; None where there are none."""
        http, grpc = (live.get(_ref(owner, kind), {}).get("spec", {}) for kind in KINDS)
        parents = http.get("parentRefs") or grpc.get("parentRefs")
        if not parents:
            return None
        return Attachment(tuple(parents), tuple(http.get("hostnames", ())), tuple(grpc.get("hostnames", ())))

    def kinds(self) -> tuple[str, ...]:
        """The kinds of route that it takes."""
        return KINDS if self.grpc_hostnames else KINDS[:1]


def routes(owner: Owner, attachment: Attachment, split: Split) -> list[Manifest]:
    """The routes by which `attachment`'s gateways split the requests."""
    rendered = {"HTTPRoute": _http_route, "GRPCRoute": _grpc_route}
    return [rendered[kind](owner, attachment, split) for kind in attachment.kinds()]


def model_paths(name: str) -> tuple[str, ...]:
    """Path prefixes of the deployment's models in the Open Inference Protocol."""
    return (f"/v2/models/{name}", f"/v2/models/{name}{contract.ENGINE_SUFFIX}")


def backend(owner: Owner, revision: str) -> Manifest:
    """Service of one revision for gateways.

    It has an address of its own, since some gateways route to Services and not to pods. It carries no revision's label:
    it goes when no route needs it, not when the revision does.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(owner, names.backend(owner.name, revision), labels(owner, names.COMPONENT_ROUTER)),
        "spec": {
            "selector": labels(owner, names.COMPONENT_SERVER, revision=revision),
            "ports": [
                {"name": "http", "port": contract.HTTP_PORT, "targetPort": "http", "appProtocol": "http"},
                {"name": "grpc", "port": contract.GRPC_PORT, "targetPort": "grpc", "appProtocol": "kubernetes.io/h2c"},
            ],
        },
    }


def changes(live: Live, rendered: Sequence[Manifest]) -> bool:
    """Whether applying `rendered` changes where requests go, so that gateways have to be told."""
    return any(_split_of(live.get(Ref.of(route), {})) != _split_of(route) for route in rendered)


def _split_of(route: Mapping[str, Any]) -> list[tuple[str, int]]:
    rules = route.get("spec", {}).get("rules", [])
    return [(ref["name"], ref.get("weight", 1)) for rule in rules for ref in rule.get("backendRefs", [])]


def _ref(owner: Owner, kind: str) -> Ref:
    return Ref(kind, owner.namespace, owner.name)


def _http_route(owner: Owner, attachment: Attachment, split: Split) -> Manifest:
    paths = ("/",) if attachment.hostnames else model_paths(owner.name)
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": path}} for path in paths],
        "timeouts": {"request": REQUEST_TIMEOUT},
    }
    return _route(
        owner, "HTTPRoute", attachment, attachment.hostnames, {**rule, **_to(owner, split, contract.HTTP_PORT)}
    )


def _grpc_route(owner: Owner, attachment: Attachment, split: Split) -> Manifest:
    return _route(owner, "GRPCRoute", attachment, attachment.grpc_hostnames, _to(owner, split, contract.GRPC_PORT))


def _route(owner: Owner, kind: str, attachment: Attachment, hostnames: Sequence[str], rule: Manifest) -> Manifest:
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": metadata(owner, owner.name, labels(owner, names.COMPONENT_ROUTER)),
        "spec": {
            "parentRefs": list(attachment.parents),
            **({"hostnames": list(hostnames)} if hostnames else {}),
            "rules": [rule],
        },
    }


def _to(owner: Owner, split: Split, port: int) -> Manifest:
    """Weighted backends. A revision without weight is named too: gateways know its servers before it gets requests."""
    backends = [
        {
            "group": "",
            "kind": "Service",
            "name": names.backend(owner.name, revision),
            "port": port,
            "weight": weight,
            "filters": _filters(owner, revision),
        }
        for revision, weight in sorted(split.weights.items())
    ]
    return {"backendRefs": backends} if backends else {}


def _filters(owner: Owner, revision: str) -> list[Manifest]:
    """The answer names its revision; the request carries what a gateway's spans need to be counted for it."""
    told = {
        contract.NAMESPACE_HEADER: owner.namespace,
        contract.DEPLOYMENT_HEADER: owner.name,
        contract.REVISION_HEADER: revision,
    }
    request = [{"name": name, "value": value} for name, value in told.items()]
    response = [{"name": contract.REVISION_HEADER, "value": revision}]
    return [
        {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": request}},
        {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": response}},
    ]
