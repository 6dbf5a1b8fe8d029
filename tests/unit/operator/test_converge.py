"""Applying a plan: what is written, what is left alone, and what a refusal does to the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tapchanger_operator import names
from tapchanger_operator.api import reasons
from tapchanger_operator.errors import UserError
from tapchanger_operator.names import Ref
from tests.support.fake_kube import Call
from tests.support.history import Behaviour
from tests.support.world import NAMESPACE, World

FAST: dict[str, Any] = {
    "rollout": {"steps": [{"weight": 50}], "analysis": {"minRequests": 60, "timeout": "45s"}, "watch": "20s"},
}
A, B, C = "pvc://models/a", "pvc://models/b", "pvc://models/c"
REF = Ref("TransformerDeployment", NAMESPACE, "moderation")


@pytest.fixture
def world() -> World:
    """Model A serves, model B is bad."""
    world = World(rate=200, behaviours={B: Behaviour(slow=1.0)})
    world.deploy(A, **FAST)
    assert world.run(40, lambda: world.condition("Ready").get("status") == "True")
    world.run(2)
    return world


def refusing(matches: Callable[[Call], bool]) -> Callable[[int, Call], None]:
    def fault(_: int, call: Call) -> None:
        if call.verb in ("apply", "create") and matches(call):
            raise UserError(reasons.REFUSED, "exceeded quota")

    return fault


def stable(world: World) -> str:
    return str(world.status()["stable"]["revision"])


def canary_with_traffic(world: World) -> None:
    world.deploy(B, **FAST)
    assert world.run(60, lambda: world.status().get("canary", {}).get("weight") == 50)


@pytest.mark.parametrize("kind", ["EngineBuild", "PersistentVolumeClaim", "Service", "NetworkPolicy", "Deployment"])
def test_a_refused_object_never_keeps_a_rollback_from_the_routers(world: World, kind: str) -> None:
    canary_with_traffic(world)
    for ref in [Ref("PersistentVolumeClaim", NAMESPACE, names.STORE_CLAIM), Ref("Service", NAMESPACE, "moderation")]:
        world.kube.remove(ref)
    world.kube.fault = refusing(lambda call: call.ref.kind == kind)
    world.tools = world.fresh_operator()
    world.deploy(C, **FAST)
    assert world.run(10, lambda: bool(world.status().get("rejected"))), world.status()
    world.run(1)
    assert {r: w for r, w in world.weights().items() if w} == {stable(world): 100}


def test_a_refusal_is_told_and_goes_when_it_is_over(world: World) -> None:
    world.kube.fault = refusing(lambda call: call.ref.kind == "NetworkPolicy")
    world.kube.remove(Ref("NetworkPolicy", NAMESPACE, "moderation-server"))
    world.run(3)
    assert world.condition("Stalled")["reason"] == reasons.REFUSED
    assert world.status()["message"] == f"exceeded quota ({stable(world)} serves meanwhile)"
    world.kube.fault = lambda number, call: None
    world.run(2)
    assert world.condition("Ready")["status"] == "True"
    assert Ref("NetworkPolicy", NAMESPACE, "moderation-server") in world.kube.objects


def test_nothing_is_deleted_while_something_is_refused(world: World) -> None:
    canary_with_traffic(world)
    world.run(10, lambda: bool(world.status().get("rejected")))
    rejected = world.status()["rejected"][0]["revision"]
    world.kube.fault = refusing(lambda call: call.ref.kind == "ConfigMap")
    world.tools = world.fresh_operator()
    world.run(20)
    assert names.server("moderation", rejected) in world.kube.of_kind("Deployment")
    world.kube.fault = lambda number, call: None
    world.run(12)
    assert names.server("moderation", rejected) not in world.kube.of_kind("Deployment")


def test_a_refused_build_job_is_told_where_people_look(world: World) -> None:
    world.kube.fault = refusing(lambda call: call.ref.kind == "Job" and call.ref.name.startswith("eb-"))
    world.deploy(C, **FAST)
    assert world.run(10, lambda: world.condition("Stalled").get("status") == "True"), world.status()
    assert world.condition("Stalled")["reason"] == reasons.REFUSED
    world.kube.fault = lambda number, call: None
    assert world.run(60, lambda: world.condition("Ready").get("status") == "True"), world.status()


def test_an_event_that_is_refused_fails_no_pass(world: World) -> None:
    world.kube.fault = refusing(lambda call: call.ref.kind == "Event")
    world.deploy(C, **FAST)
    assert world.run(60, lambda: world.status()["stable"]["uri"] == C), world.status()
    assert not world.errors


def test_objects_of_others_are_left_alone_though_they_carry_the_label(world: World) -> None:
    foreign = {
        "kind": "ConfigMap",
        "metadata": {
            "name": "notes", "namespace": NAMESPACE, "labels": {names.LABEL_DEPLOYMENT: "moderation"},
        },
        "data": {},
    }  # fmt: skip
    world.kube.put(foreign)
    world.run(5)
    assert Ref("ConfigMap", NAMESPACE, "notes") in world.kube.objects


def test_what_is_not_planned_any_more_goes(world: World) -> None:
    assert Ref("PodDisruptionBudget", NAMESPACE, "moderation-router") in world.kube.objects
    world.deploy(A, **FAST, router={"replicas": 1})
    world.run(2)
    assert Ref("PodDisruptionBudget", NAMESPACE, "moderation-router") not in world.kube.objects


def test_servers_whose_content_was_lost_are_not_torn_down_while_they_serve(world: World) -> None:
    serving = stable(world)
    world.deploy(C, **FAST)
    assert world.run(60, lambda: world.status().get("canary") is not None)
    world.kube.remove(Ref("ControllerRevision", NAMESPACE, names.server("moderation", serving)))
    world.run(3)
    assert names.server("moderation", serving) in world.kube.of_kind("Deployment")
    assert names.server("moderation", serving) in world.kube.of_kind("Service")


def test_a_router_pod_that_starts_is_told_once(world: World) -> None:
    world.kube.remove(Ref("Pod", NAMESPACE, "moderation-router-0"))
    done = len(world.kube.calls)
    world.run(5)
    told = [call.ref.name for call in world.kube.calls[done:] if call.verb == "annotate"]
    assert told == ["moderation-router-0"]


def test_every_router_is_told_of_each_change_of_weights_once(world: World) -> None:
    done = len(world.kube.calls)
    canary_with_traffic(world)
    world.run(15, lambda: bool(world.status().get("rejected")))
    world.run(3)
    told = [
        (c.ref.name, c.body[names.ANNOTATION_ROUTER_CONFIG]) for c in world.kube.calls[done:] if c.verb == "annotate"
    ]
    first, second = ([c for n, c in told if n == f"moderation-router-{i}"] for i in (0, 1))
    assert first == second
    assert len(first) == 3, "the canary is known, it gets its share, it loses it"
    assert first[0] == first[2] != first[1]


def test_a_shared_claim_keeps_its_spec_whoever_comes_later(world: World) -> None:
    ref = Ref("PersistentVolumeClaim", NAMESPACE, names.STORE_CLAIM)
    claim = world.kube.objects[ref]
    bound = {**claim["spec"], "volumeName": "pv-1", "resources": {"requests": {"storage": "99Gi"}}}
    world.kube.put({**claim, "spec": bound})
    world.deploy(A, name="second", **FAST)
    world.run(3)
    assert world.kube.objects[ref]["spec"] == bound
    owners = [owner["name"] for owner in world.kube.objects[ref]["metadata"]["ownerReferences"]]
    assert owners == ["moderation", "second"]


def test_owners_of_shared_objects_do_not_control_them(world: World) -> None:
    for kind in ("PersistentVolumeClaim", "EngineBuild"):
        for item in world.kube.of_kind(kind).values():
            assert not any(owner.get("controller") for owner in item["metadata"].get("ownerReferences", []))


def test_an_operator_that_has_just_started_applies_everything_once_and_then_nothing(world: World) -> None:
    world.run(40)
    world.rate = 0
    world.seconds.clear()
    world.run(2)
    world.tools = world.fresh_operator()
    done = len(world.kube.calls)
    world.run(1)
    applied = [call.ref for call in world.kube.calls[done:] if call.verb == "apply"]
    assert len(applied) == len(set(applied)) > 5
    done = len(world.kube.calls)
    world.run(3)
    assert [call for call in world.kube.calls[done:] if call.verb not in ("get", "list")] == []


def test_a_deployment_that_is_being_deleted_is_left_to_the_garbage_collector(world: World) -> None:
    body = world.kube.objects[REF]
    world.kube.put({**body, "metadata": {**body["metadata"], "deletionTimestamp": "2026-11-24T06:00:00Z"}})
    done = len(world.kube.calls)
    world.one_pass(REF)
    assert [call.verb for call in world.kube.calls[done:]] == ["get"]


def test_nothing_that_is_made_has_a_finalizer(world: World) -> None:
    for call in world.kube.calls:
        if call.verb == "apply":
            assert "finalizers" not in call.body["metadata"]
