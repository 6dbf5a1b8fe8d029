"""A gateway that the team already runs: routes, what gateways say of them, and the switch to one and back."""

from __future__ import annotations

from typing import Any

import pytest

from tapchanger_operator import names
from tapchanger_operator.api import reasons
from tapchanger_operator.api.base import unix
from tapchanger_operator.api.spec import RouterSpec
from tapchanger_operator.names import Ref
from tapchanger_operator.observe.routes import seen
from tapchanger_operator.plan.gateway import Attachment, routes
from tapchanger_operator.plan.routing import LINGER_SECONDS
from tapchanger_operator.plan.split import Split
from tapchanger_operator.snapshot import RoutesSeen
from tests.support.gateways import GATEWAY, GRPC_ROUTE, REFUSED, ROUTE, SERVICE, GatewayWorld, split_of
from tests.support.history import Behaviour
from tests.support.samples import OWNER
from tests.support.world import NAMESPACE

A, B = "pvc://models/a", "pvc://models/b"
FAST: dict[str, Any] = {"rollout": {"steps": [{"weight": 50}], "analysis": {"minRequests": 60}, "watch": "20s"}}
ROUTER_KINDS = ("ConfigMap", "PodDisruptionBudget")


def ready(world: GatewayWorld) -> bool:
    return world.condition("Ready").get("status") == "True"


def stable(world: GatewayWorld) -> str:
    return str(world.status()["stable"]["revision"])


def serving(**world: Any) -> GatewayWorld:
    """Model A serves through a gateway."""
    made = GatewayWorld(rate=200, **world)
    made.deploy(A, **FAST, router=GATEWAY)
    assert made.run(60, lambda: ready(made)), made.status()
    return made


def test_a_gateway_needs_no_envoy() -> None:
    world = serving()
    assert set(world.kube.of_kind("Deployment")) == {names.server("moderation", stable(world))}
    assert not [kind for kind in ROUTER_KINDS if world.kube.of_kind(kind)]
    assert set(world.kube.of_kind("NetworkPolicy")) == {"moderation-server"}
    assert split_of(world.kube.objects[ROUTE]) == split_of(world.kube.objects[GRPC_ROUTE]) == {stable(world): 100}
    assert world.kube.objects[SERVICE]["spec"]["selector"][names.LABEL_REVISION] == stable(world)
    assert world.status()["endpoints"] == {
        "grpc": "moderation-grpc.example.com",
        "http": "moderation.example.com",
        "model": "moderation",
    }


def test_a_canary_takes_over_through_the_routes_and_nothing_is_lost() -> None:
    world = serving()
    first = stable(world)
    world.deploy(B, **FAST, router=GATEWAY)
    assert world.run(120, lambda: ready(world) and stable(world) != first), world.status()
    second = stable(world)
    world.run(60)
    assert [{r: w for r, w in split.items() if w} for split in world.weights_seen if len(split) > 1] == [
        {first: 100},
        {first: 50, second: 50},
        {second: 100},
    ]
    assert not world.lost
    assert set(world.kube.of_kind("Deployment")) == {names.server("moderation", second)}
    assert set(world.kube.of_kind("Service")) == {
        "moderation",
        names.server("moderation", second),
        names.backend("moderation", second),
    }


def test_a_bad_canary_is_rolled_back_through_the_routes() -> None:
    world = serving(behaviours={B: Behaviour(slow=1.0)})
    first = stable(world)
    world.deploy(B, **FAST, router=GATEWAY)
    assert world.run(120, lambda: bool(world.status().get("rejected"))), world.status()
    world.run(2)
    assert {r: w for r, w in world.served.items() if w} == {first: 100}
    assert not world.lost


def test_servers_stay_while_a_gateway_has_not_heard_that_they_get_nothing() -> None:
    world = serving(behaviours={B: Behaviour(slow=1.0)})
    world.deploy(B, **FAST, router=GATEWAY)
    assert world.run(120, lambda: world.status().get("canary", {}).get("weight") == 50), world.status()
    world.run(1)
    canary = world.status()["canary"]["revision"]
    world.deaf = True
    assert world.run(120, lambda: bool(world.status().get("rejected"))), world.status()
    world.run(60)
    assert names.server("moderation", canary) in world.kube.of_kind("Deployment")
    assert names.backend("moderation", canary) in world.kube.of_kind("Service")
    assert not world.lost
    world.deaf = False
    world.run(3)
    assert names.server("moderation", canary) not in world.kube.of_kind("Deployment")
    assert names.backend("moderation", canary) not in world.kube.of_kind("Service")
    assert not world.lost


def test_without_the_gateways_traces_nothing_is_promoted() -> None:
    world = serving(traced=False)
    first = stable(world)
    world.deploy(B, **FAST, router=GATEWAY)
    world.run(200)
    assert stable(world) == first
    condition = world.condition("Analysis")
    assert (condition["status"], condition["reason"]) == ("Unknown", reasons.OBSERVER_SILENT)
    assert "docs/gateway.md" in condition["message"]
    assert world.condition("SLOMet")["reason"] == reasons.OBSERVER_SILENT


def test_a_cluster_without_the_gateway_api_is_told_what_to_install() -> None:
    world = GatewayWorld()
    world.kube.unknown = {"HTTPRoute", "GRPCRoute"}
    world.deploy(A, **FAST, router=GATEWAY)
    world.run(40)
    assert not world.errors
    stalled = world.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", reasons.GATEWAY_API_MISSING)
    assert world.condition("Serving")["reason"] == reasons.GATEWAY_API_MISSING
    for word in ("HTTPRoute and GRPCRoute", "gateway-api.sigs.k8s.io", "router.type: Envoy"):
        assert word in stalled["message"]
    assert stalled["message"] in world.status()["message"]
    world.kube.unknown = set()
    assert world.run(10, lambda: ready(world)), world.status()


def test_a_refusal_is_told_even_while_the_model_is_still_being_read() -> None:
    world = GatewayWorld(refusal=REFUSED)
    world.deploy(A, **FAST, router=GATEWAY)
    assert world.run(60, lambda: world.condition("Stalled").get("status") == "True")
    assert world.condition("Built")["reason"] != "EngineReady"
    assert "NotAllowedByListeners" in world.status()["message"]


def test_a_gateway_that_refuses_is_quoted() -> None:
    world = GatewayWorld(refusal=REFUSED)
    world.deploy(A, **FAST, router=GATEWAY)
    world.run(40)
    for kind in ("Serving", "Stalled", "Ready"):
        assert world.condition(kind)["reason"] == reasons.ROUTE_NOT_ACCEPTED
    assert world.condition("Stalled")["message"] == (
        "Gateway infra/shared to the HTTPRoute: Accepted is False, NotAllowedByListeners: not from team-a"
    )
    world.refusal = None
    assert world.run(15, lambda: ready(world)), world.status()


def test_a_gateway_that_does_not_exist_is_waited_for() -> None:
    world = GatewayWorld(deaf=True)
    world.deploy(A, **FAST, router=GATEWAY)
    world.run(40)
    assert world.condition("Serving")["reason"] == reasons.ROUTE_NOT_ACCEPTED
    assert "no controller has answered for Gateway infra/shared" in world.condition("Serving")["message"]
    assert world.condition("Stalled")["status"] == "False"


def test_envoy_goes_when_the_gateway_serves_and_no_request_is_lost() -> None:
    world = GatewayWorld(rate=200, deaf=True)
    world.deploy(A, **FAST)
    assert world.run(60, lambda: ready(world)), world.status()
    world.deploy(A, **FAST, router=GATEWAY)
    world.run(20)
    assert "moderation-router" in world.kube.of_kind("Deployment"), "nobody has taken over yet"
    assert "the routers of before go on" in world.condition("Serving")["message"]
    world.deaf = False
    assert world.run(10, lambda: ready(world)), world.status()
    world.run(3)
    assert "moderation-router" not in world.kube.of_kind("Deployment")
    assert not [kind for kind in ROUTER_KINDS if world.kube.of_kind(kind)]
    assert world.at_gateway
    assert not world.lost


def test_the_routes_stay_until_clients_have_heard_of_envoy_and_then_go() -> None:
    world = serving()
    world.deploy(A, **FAST)
    assert world.run(20, lambda: ready(world)), world.status()
    world.run(5)
    assert names.LABEL_REVISION not in world.kube.objects[SERVICE]["spec"]["selector"]
    made = unix(world.kube.of_kind("Deployment")["moderation-router"]["metadata"]["creationTimestamp"])
    assert world.run(400, lambda: ROUTE not in world.kube.objects), "the routes went"
    assert world.now - made >= LINGER_SECONDS
    assert not world.lost
    world.at_gateway = False
    world.run(2)
    assert GRPC_ROUTE not in world.kube.objects
    assert names.backend("moderation", stable(world)) not in world.kube.of_kind("Service")
    assert names.ANNOTATION_ROUTES not in _annotations(world, SERVICE)
    done = len(world.kube.calls)
    world.run(3)
    assert not [call for call in world.kube.calls[done:] if call.ref.kind in ("HTTPRoute", "GRPCRoute")]


def test_weights_move_at_the_gateway_too_while_it_lingers() -> None:
    world = serving()
    first = stable(world)
    world.deploy(B, **FAST)
    assert world.run(120, lambda: stable(world) != first), world.status()
    world.run(5)
    assert {r: w for r, w in world.served.items() if w} == {stable(world): 100}
    assert not world.lost


def _annotations(world: GatewayWorld, ref: Ref) -> dict[str, str]:
    found: dict[str, str] = world.kube.objects[ref]["metadata"].get("annotations", {})
    return found


def test_without_a_gateway_nobody_looks_for_routes() -> None:
    world = GatewayWorld()
    world.deploy(A, **FAST)
    assert world.run(60, lambda: ready(world))
    assert not [call for call in world.kube.calls if call.ref.kind in ("HTTPRoute", "GRPCRoute")]


def test_an_idle_gateway_costs_no_writes() -> None:
    world = serving()
    world.rate = 0
    world.seconds.clear()
    world.run(40)
    done = len(world.kube.calls)
    world.run(5)
    assert [call for call in world.kube.calls[done:] if call.verb not in ("get", "list")] == []


def test_without_host_names_requests_are_told_by_their_path() -> None:
    attachment = Attachment.of(RouterSpec(type="GatewayAPI", parent_refs=[{"name": "shared"}]))  # type: ignore[list-item]
    rendered = routes(OWNER, attachment, Split({"aaaaaaaaaa": 100}))
    assert [route["kind"] for route in rendered] == ["HTTPRoute"]
    matches = rendered[0]["spec"]["rules"][0]["matches"]
    assert [match["path"]["value"] for match in matches] == ["/v2/models/moderation", "/v2/models/moderation-engine"]


def test_the_attachment_of_routes_is_what_they_were_made_of() -> None:
    attachment = Attachment.of(RouterSpec.model_validate(GATEWAY))
    live = {Ref.of(route): route for route in routes(OWNER, attachment, Split({"aaaaaaaaaa": 100}))}
    assert Attachment.seen(OWNER, live) == attachment
    assert Attachment.seen(OWNER, {}) is None


# What single gateways say.

PARENT = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "shared", "namespace": "infra"}
HTTP_ONLY = RouterSpec.model_validate({"type": "GatewayAPI", "parentRefs": [{"name": "shared", "namespace": "infra"}]})


def entry(parent: dict[str, Any] | None = None, generation: int = 4, **statuses: str) -> dict[str, Any]:
    wanted = {"Accepted": "True", "ResolvedRefs": "True", **statuses}
    conditions = [
        {"type": kind, "status": status, "reason": "Because", "message": "so", "observedGeneration": generation}
        for kind, status in wanted.items()
    ]
    return {"parentRef": parent or PARENT, "controllerName": "example.com/gateway", "conditions": conditions}


def said(*parents: dict[str, Any], spec: RouterSpec = HTTP_ONLY) -> RoutesSeen:
    meta = {"name": "moderation", "namespace": "team-a", "generation": 4}
    return seen(
        OWNER, spec, [{"kind": "HTTPRoute", "metadata": meta, "status": {"parents": list(parents)}}], frozenset()
    )


def test_a_weight_is_told_when_the_gateway_has_seen_its_generation() -> None:
    assert said(entry()).told
    before = said(entry(generation=3))
    assert not before.told
    assert before.trouble is None, "it serves what it knew, so that nothing is wrong yet"


@pytest.mark.parametrize("kind", ["Accepted", "ResolvedRefs"])
def test_both_conditions_count(kind: str) -> None:
    found = said(entry(**{kind: "False"}))
    assert not found.told
    assert found.refused
    assert found.trouble is not None
    assert f"{kind} is False, Because: so" in found.trouble.message


def test_a_service_that_a_gateway_has_not_seen_yet_passes_by_itself() -> None:
    late = entry(ResolvedRefs="False")
    late["conditions"][1]["reason"] = "BackendNotFound"
    found = said(late)
    assert found.trouble is not None
    assert not found.refused


@pytest.mark.parametrize(
    "other", [{**PARENT, "name": "other"}, {**PARENT, "namespace": "team-a"}, {**PARENT, "sectionName": "web"}]
)
def test_what_is_said_of_other_gateways_does_not_count(other: dict[str, Any]) -> None:
    found = said(entry(other))
    assert not found.told
    assert found.trouble is not None
    assert "no controller has answered" in found.trouble.message


def test_a_gateway_without_a_namespace_is_in_the_deployments() -> None:
    spec = RouterSpec.model_validate({"type": "GatewayAPI", "parentRefs": [{"name": "shared"}]})
    assert said(entry({"name": "shared"}), spec=spec).told
    assert said(entry({"name": "shared", "namespace": NAMESPACE}), spec=spec).told


def test_every_gateway_has_to_serve() -> None:
    both = RouterSpec.model_validate(
        {"type": "GatewayAPI", "parentRefs": [{"name": "shared", "namespace": "infra"}, {"name": "inner"}]}
    )
    assert not said(entry(), spec=both).told
    assert said(entry(), entry({"name": "inner"}), spec=both).told


def test_only_the_kinds_that_are_needed_have_to_be_there() -> None:
    meta = {"name": "moderation", "namespace": "team-a", "generation": 4}
    route = {"kind": "HTTPRoute", "metadata": meta, "status": {"parents": [entry()]}}
    assert seen(OWNER, HTTP_ONLY, [route], frozenset({"GRPCRoute"})).told
    with_grpc = HTTP_ONLY.model_copy(update={"grpc_hostnames": ["g.example.com"]})
    trouble = seen(OWNER, with_grpc, [route], frozenset({"GRPCRoute"})).trouble
    assert trouble is not None
    assert trouble.reason == reasons.GATEWAY_API_MISSING
    assert "GRPCRoute" in trouble.message
