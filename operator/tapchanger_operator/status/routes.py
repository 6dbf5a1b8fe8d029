"""What is told of the way to the servers: why no request gets through it, and where applications go."""

from __future__ import annotations

from dataclasses import replace

from tapchanger_operator.api import reasons
from tapchanger_operator.api.status import Endpoints
from tapchanger_operator.plan.gateway import model_paths
from tapchanger_operator.snapshot import Snapshot, Trouble
from tapchanger_serving.contract import names as contract


def trouble(snapshot: Snapshot) -> Trouble | None:
    """Why no request gets through the routers or the gateways that the spec asks for."""
    router = snapshot.router
    if snapshot.spec.router.type == "Envoy":
        return Trouble(reasons.UNAVAILABLE, "no router is ready") if router.ready == 0 else None
    found = router.routes.trouble
    if found and router.ready:
        return replace(
            found, message=f"{found.message} (the routers of before go on at the Service {snapshot.owner.name})"
        )
    return found


def refusal(snapshot: Snapshot) -> Trouble | None:
    """The same where it doesn't pass by itself."""
    gateway = snapshot.spec.router.type == "GatewayAPI"
    return trouble(snapshot) if gateway and snapshot.router.routes.refused else None


def endpoints(snapshot: Snapshot) -> Endpoints:
    """Where applications go. A gateway's scheme and port are its listeners' own, so that host names stand alone."""
    owner, router = snapshot.owner, snapshot.spec.router
    if router.type == "Envoy":
        host = f"{owner.name}.{owner.namespace}.svc"
        return Endpoints(
            grpc=f"{host}:{contract.GRPC_PORT}", http=f"http://{host}:{contract.HTTP_PORT}", model=owner.name
        )
    http = ", ".join(router.hostnames)
    if not http:
        gateways = ", ".join(f"{parent.namespace or owner.namespace}/{parent.name}" for parent in router.parent_refs)
        http = f"{model_paths(owner.name)[0]} at Gateway {gateways}"
    return Endpoints(grpc=", ".join(router.grpc_hostnames) or None, http=http, model=owner.name)
