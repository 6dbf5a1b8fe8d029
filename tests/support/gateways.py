"""A cluster in memory with a gateway that somebody runs: its controller, its data plane and its users."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tapchanger_operator import names
from tapchanger_operator.names import Ref
from tapchanger_operator.snapshot import Silence
from tapchanger_serving.contract.windows import Windows
from tests.support.fake_kube import Object
from tests.support.world import NAMESPACE, World, routed

GATEWAY: dict[str, Any] = {
    "type": "GatewayAPI",
    "parentRefs": [{"name": "shared", "namespace": "infra", "sectionName": "web"}],
    "hostnames": ["moderation.example.com"],
    "grpcHostnames": ["moderation-grpc.example.com"],
}
SERVICE = Ref("Service", NAMESPACE, "moderation")
ROUTE = Ref("HTTPRoute", NAMESPACE, "moderation")
GRPC_ROUTE = Ref("GRPCRoute", NAMESPACE, "moderation")
REFUSED = {"type": "Accepted", "status": "False", "reason": "NotAllowedByListeners", "message": "not from team-a"}


@dataclass
class GatewayWorld(World):
    """Half of the requests go to the Service, half to the gateway, from the moment that there first was someone to answer.

    `deaf`: the controller sees nothing. `refusal`: a condition by which it refuses routes. `traced`: its spans are counted.
    """

    deaf: bool = False
    refusal: Object | None = None
    traced: bool = True
    served: dict[str, int] = field(default_factory=dict)
    at_service: bool = False
    at_gateway: bool = False

    def tick(self) -> None:
        super().tick()
        if not self.deaf:
            for ref in (ROUTE, GRPC_ROUTE):
                self._answer_route(ref)

    def _answer_route(self, ref: Ref) -> None:
        route = self.kube.objects.get(ref)
        if route is None:
            self.served = {} if ref == ROUTE else self.served
            return
        generation = route["metadata"]["generation"]
        good = [
            {"type": kind, "status": "True", "reason": kind, "message": "", "observedGeneration": generation}
            for kind in ("Accepted", "ResolvedRefs")
        ]
        conditions = [{**self.refusal, "observedGeneration": generation}] if self.refusal else good
        parents = [
            {"parentRef": parent, "controllerName": "example.com/gateway", "conditions": conditions}
            for parent in route["spec"]["parentRefs"]
        ]
        self.kube._store({**route, "status": {"parents": parents}})
        if ref == ROUTE:
            self.served = {} if self.refusal else split_of(route)

    def _shares(self) -> dict[str, float]:
        through_service, through_gateway = self._service_split(), {r: w / 100 for r, w in self.served.items() if w}
        self.at_service = self.at_service or bool(through_service)
        self.at_gateway = self.at_gateway or bool(through_gateway)
        if self.served and self.weights_seen[-1:] != [self.served]:
            self.weights_seen.append(self.served)
        shares: dict[str, float] = {}
        for expected, split, way in (
            (self.at_service, through_service, "at the Service"),
            (self.at_gateway, through_gateway, "at the gateway"),
        ):
            if expected and not split:
                self.lost[way] += round(self.rate / 2)
            for revision, share in split.items():
                shares[revision] = shares.get(revision, 0.0) + self.rate / 2 * share
        return shares

    def _service_split(self) -> dict[str, float]:
        service = self.kube.objects.get(SERVICE)
        if service is None:
            return {}
        revision = service["spec"]["selector"].get(names.LABEL_REVISION)
        if revision:
            deployment = self.kube.objects.get(Ref("Deployment", NAMESPACE, names.server("moderation", revision)))
            return {revision: 1.0} if deployment and deployment.get("status", {}).get("readyReplicas") else {}
        if not self.routers:
            return {}
        split = routed(next(iter(self.routers.values()))[1])
        return {revision: weight / 100 for revision, weight in split.items()}

    def windows(
        self, namespace: str, deployment: str, since: float, latencies: Any, until: float | None = None
    ) -> Windows | Silence:
        """As the observer's; without traces of the gateway it answers, and has seen nothing."""
        found = super().windows(namespace, deployment, since, latencies, until)
        if self.traced or isinstance(found, Silence):
            return found
        return found.model_copy(update={"revisions": ()})


def split_of(route: Object) -> dict[str, int]:
    """Weights by revision of a route."""
    references = route["spec"]["rules"][0].get("backendRefs", [])
    return {ref["name"].removeprefix("moderation-").removesuffix("-gateway"): ref["weight"] for ref in references}
