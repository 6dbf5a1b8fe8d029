"""Who may talk to whom: servers answer routers only, or a gateway's pods; routers answer everyone, jobs answer nobody."""

from __future__ import annotations

from tapchanger_operator import names
from tapchanger_operator.api.capture import CaptureSpec
from tapchanger_operator.names import Owner
from tapchanger_operator.plan import capture as capturing
from tapchanger_operator.plan import store as stores
from tapchanger_operator.plan.common import Manifest, labels, metadata
from tapchanger_operator.settings import Store
from tapchanger_serving.contract import names as contract
from tapchanger_serving.contract.capture import METRICS_PORT as CAPTURE_PORT

_DNS_PORT = 53


def server_policy(
    owner: Owner, *, gateway: bool = False, store: Store = stores.VOLUME, capture: CaptureSpec | None = None
) -> Manifest:
    """Triton pods: requests from this deployment's routers, metrics to whoever scrapes, traces out to the observer.

    `gateway`: requests from everyone, as the routers take them, since where a gateway's pods run is its own business.
    `store`: where it is elsewhere, the init container fetches from there. `capture`: the sidecar is asked and writes.
    """
    selector = labels(owner, names.COMPONENT_SERVER)
    requests: Manifest = {"ports": [_tcp(contract.HTTP_PORT), _tcp(contract.GRPC_PORT)]}
    if not gateway:
        requests["from"] = [{"podSelector": {"matchLabels": labels(owner, names.COMPONENT_ROUTER)}}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(owner, f"{owner.name}-server", selector),
        "spec": {
            "podSelector": {"matchLabels": selector},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                requests,
                {"ports": [_tcp(contract.METRICS_PORT), *([_tcp(CAPTURE_PORT)] if capture else [])]},
            ],
            "egress": [
                {"ports": [_tcp(contract.OTLP_HTTP_PORT)]},
                {"ports": [{"protocol": "UDP", "port": _DNS_PORT}, _tcp(_DNS_PORT)]},
                *_to_store(store),
                *(
                    [{"ports": [_tcp(port) for port in found]}]
                    if capture and (found := capturing.ports(capture))
                    else []
                ),
            ],
        },
    }


def router_policy(owner: Owner) -> Manifest:
    """Envoy pods: requests, health and metrics from everyone, nothing else in."""
    selector = labels(owner, names.COMPONENT_ROUTER)
    ports = (contract.HTTP_PORT, contract.GRPC_PORT, contract.ROUTER_HEALTH_PORT)
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(owner, names.router(owner.name), selector),
        "spec": {
            "podSelector": {"matchLabels": selector},
            "policyTypes": ["Ingress"],
            "ingress": [{"ports": [_tcp(port) for port in ports]}],
        },
    }


def _to_store(store: Store) -> list[Manifest]:
    if not store.uri:
        return []
    rule: Manifest = {"ports": [_tcp(port) for port in stores.ports(store)]}
    return [{**rule, "to": [dict(peer) for peer in store.peers]} if store.peers else rule]


def _tcp(port: int) -> Manifest:
    return {"protocol": "TCP", "port": port}
