"""Whole rollouts in a cluster in memory: every pass of the operator, from an empty namespace to a rollback."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest

from tapchanger_operator import names
from tapchanger_operator.api.base import unix
from tapchanger_operator.decide.rollout import READY_DEADLINE_SECONDS
from tapchanger_operator.names import Ref
from tapchanger_operator.reconcile import IDLE_SECONDS, JUDGING_SECONDS, WORKING_SECONDS, reconcile_deployment
from tapchanger_serving.contract.messages import StepFailure
from tests.support import kstatus
from tests.support.history import Behaviour
from tests.support.schemas import problems, schema_of
from tests.support.world import NAMESPACE, World

FAST: dict[str, Any] = {
    "rollout": {
        "steps": [{"weight": 10}, {"weight": 50}],
        "analysis": {"minRequests": 60, "timeout": "45s"},
        "watch": "20s",
    }
}
A, B, C = "pvc://models/a", "pvc://models/b", "pvc://models/c"


def ready(world: World, name: str = "moderation") -> bool:
    return world.condition("Ready", name).get("status") == "True"


def served(**behaviours: Behaviour) -> World:
    """A world in which model A serves."""
    world = World(behaviours={f"pvc://models/{name}": behaviour for name, behaviour in behaviours.items()})
    world.deploy(A, **FAST)
    assert world.run(40, lambda: ready(world)), world.status()
    world.run(1)
    world.weights_seen.clear()
    return world


def revision(world: World, part: str = "stable") -> str:
    return str(world.status()[part]["revision"])


def spec(world: World) -> Any:
    return world.kube.objects[Ref("TransformerDeployment", NAMESPACE, "moderation")]["spec"]


def told(world: World, reason: str) -> list[str]:
    """Messages of the Events with `reason`."""
    return [e["message"] for e in world.kube.of_kind("Event").values() if e["reason"] == reason]


def builds(world: World) -> dict[str, Any]:
    return world.kube.of_kind("EngineBuild")


def test_from_nothing_to_all_traffic() -> None:
    world = World()
    world.deploy(A, **FAST)
    seen = []
    for _ in range(40):
        world.run(1)
        seen.append(world.status()["message"])
    assert ready(world)
    assert world.weights() == {revision(world): 100}
    story = list(dict.fromkeys(seen))
    for words in (
        "reading pvc://models/a and the node's hardware",
        "fetching the checkpoint",
        "exporting the model",
        "measuring the candidates",
        f"servers of {revision(world)} are starting",
        f"{revision(world)} serves all requests",
    ):
        assert any(words in sentence for sentence in story), (words, story)
    assert not world.errors
    assert len(told(world, "Ready")) == 1


def test_a_good_change_goes_through_the_steps_without_a_lost_request() -> None:
    world = served()
    before = revision(world)
    world.deploy(B, **FAST)
    assert world.run(120, lambda: ready(world)), world.status()
    after = revision(world)
    assert after != before
    world.run(1)
    assert [split.get(after, 0) for split in world.weights_seen] == [0, 10, 50, 100]
    assert world.status()["previous"]["revision"] == before
    world.run(60)
    assert names.server("moderation", before) not in world.kube.of_kind("Deployment")
    assert not world.lost
    assert not world.errors


@pytest.mark.parametrize("behaviour", [Behaviour(slow=1.0), Behaviour(failing=0.1)], ids=["slow", "failing"])
def test_a_bad_change_is_rolled_back_at_once_and_not_tried_again(behaviour: Behaviour) -> None:
    world = served(b=behaviour)
    world.rate = 200
    before = revision(world)
    world.deploy(B, **FAST)
    wanted = dict(spec(world))
    assert world.run(120, lambda: bool(world.status().get("rejected"))), world.status()
    assert world.now - unix(world.status()["rejected"][0]["firstBadAt"]) <= 10
    world.run(1)
    assert {r: w for r, w in world.weights().items() if w} == {before: 100}
    world.run(100)
    assert spec(world) == wanted
    assert world.weights() == {before: 100}
    assert "canary" not in world.status()
    assert len(told(world, "RolledBack")) == 1
    assert world.condition("Stalled")["status"] == "True"
    assert world.condition("Serving")["status"] == "True"
    assert "rolled back" in world.status()["message"]
    assert not world.lost
    assert not world.errors


def test_a_further_change_after_a_rollback_is_tried_and_promoted() -> None:
    world = served(b=Behaviour(slow=1.0))
    world.deploy(B, **FAST)
    world.run(120, lambda: bool(world.status().get("rejected")))
    world.deploy(C, **FAST)
    assert world.run(120, lambda: ready(world)), world.status()
    assert world.status()["stable"]["uri"] == C
    assert len(world.status()["rejected"]) == 1
    assert not world.lost


def test_going_back_after_a_rollback_is_ready_at_once() -> None:
    world = served(b=Behaviour(slow=1.0))
    world.deploy(B, **FAST)
    world.run(120, lambda: bool(world.status().get("rejected")))
    world.deploy(A, **FAST)
    assert world.run(3, lambda: ready(world)), world.status()


def test_a_canary_that_does_not_start_gets_no_traffic_and_is_given_up() -> None:
    world = served(b=Behaviour(starts=False))
    before = revision(world)
    world.deploy(B, **FAST)
    world.run(20)
    world.now += READY_DEADLINE_SECONDS
    assert world.run(5, lambda: bool(world.status().get("rejected"))), world.status()
    assert world.status()["rejected"][0]["reason"] == "CanaryNotReady"
    assert all(split == {before: 100} for split in world.weights_seen)
    assert not world.lost


def test_without_requests_a_canary_waits_and_then_says_that_it_waits() -> None:
    world = served()
    world.rate = 0
    rollout = {**FAST["rollout"], "analysis": {"minRequests": 60, "timeout": "15m"}}
    world.deploy(B, rollout=rollout)
    world.run(30)
    world.now += 890
    assert world.run(30, lambda: bool(world.condition("Stalled").get("status") == "True")), world.status()
    assert world.condition("Stalled")["reason"] == "CanaryPaused"
    assert world.status()["canary"]["weight"] == 10
    world.rate = 40
    assert world.run(400, lambda: ready(world)), world.status()
    assert world.status()["stable"]["uri"] == B


def test_a_silent_observer_never_promotes_and_its_return_goes_on() -> None:
    world = served()
    world.observer_silent = True
    world.deploy(B, **FAST)
    assert not world.run(60, lambda: ready(world))
    assert world.status()["canary"]["weight"] == 10
    assert "observer gives no data" in world.condition("Analysis")["message"]
    assert world.condition("SLOMet")["status"] == "Unknown"
    world.observer_silent = False
    assert world.run(60, lambda: ready(world)), world.status()


def test_traffic_flows_on_while_the_operator_is_away() -> None:
    world = served()
    world.deploy(B, **FAST)
    world.run(120, lambda: world.status().get("canary", {}).get("weight") == 10)
    world.run(1)
    there = world.weights()
    world.run(300, operator=False)
    assert world.weights() == there
    assert not world.lost
    world.tools = world.fresh_operator()
    assert world.run(60, lambda: ready(world)), world.status()
    assert not world.lost


def test_routers_that_notice_late_lose_nothing_through_a_promotion() -> None:
    world = served()
    world.routers_deaf = True
    world.deploy(B, **{**FAST, "rollout": {**FAST["rollout"], "watch": "30m"}})
    assert world.run(300, lambda: ready(world)), world.status()
    world.run(100)
    assert world.weights()[revision(world)] == 100
    assert not world.lost


def test_the_same_content_is_built_once_for_two_deployments() -> None:
    world = World()
    world.deploy(A, **FAST)
    world.deploy(A, name="second", **FAST)
    world.run(60, lambda: ready(world) and world.status("second").get("stable") is not None)
    assert len(builds(world)) == 1
    (build,) = builds(world).values()
    assert {owner["name"] for owner in build["metadata"]["ownerReferences"]} == {"moderation", "second"}
    world.run(30)
    assert [
        c.verb for c in world.kube.calls if c.ref.kind == "Job" and c.verb == "apply" and c.ref.name.startswith("eb-")
    ] == ["apply"]


def test_a_build_that_another_deployment_needs_survives_the_others_end() -> None:
    world = World()
    ref = world.deploy(A, **FAST)
    world.deploy(A, name="second", **FAST)
    world.run(60, lambda: ready(world))
    world.kube.remove(ref)
    world.run(5)
    (build,) = builds(world).values()
    assert [owner["name"] for owner in build["metadata"]["ownerReferences"]] == ["second"]


def test_deleting_a_deployment_leaves_nothing_of_it() -> None:
    world = served()
    world.deploy(B, **FAST)
    world.run(30)
    world.kube.remove(Ref("TransformerDeployment", NAMESPACE, "moderation"))
    world.run(5)
    left = {ref for ref in world.kube.objects if ref.kind not in ("Event", "PersistentVolumeClaim")}
    assert left == set()
    assert world.kube.of_kind("PersistentVolumeClaim").keys() == {"models"}


def test_builds_that_nobody_needs_any_more_are_deleted() -> None:
    world = served()
    world.deploy(B, **FAST)
    assert world.run(120, lambda: ready(world))
    assert len(builds(world)) == 2
    world.run(60)
    assert len(builds(world)) == 1


def test_an_engine_is_built_again_where_a_person_asks_and_takes_over_as_any_change_does() -> None:
    world = served()
    before, first = set(builds(world)), revision(world)
    world.deploy(A, **FAST, engine={"attempt": 2})
    assert world.run(60, lambda: "canary" in world.status()), world.status()
    (again,) = set(builds(world)) - before
    assert builds(world)[again]["spec"]["attempt"] == 2
    assert revision(world) == first
    assert world.run(120, lambda: ready(world) and revision(world) != first), world.status()
    assert not world.lost


def test_a_moved_model_of_the_same_content_is_not_built_again() -> None:
    world = served()
    before, serving = set(builds(world)), revision(world)
    world.deploy(f"{A}?elsewhere", **FAST)
    assert world.run(60, lambda: ready(world) and world.status()["observedGeneration"] == 2), world.status()
    world.run(5)
    assert set(builds(world)) == before
    assert revision(world) == serving


def test_a_model_that_is_refused_says_why_while_the_old_one_serves() -> None:
    world = served()
    before = revision(world)
    remedy = "convert them to safetensors"
    world.failures[B] = StepFailure(
        reason="PickleCheckpoint", message="the weights are pickled", field="spec.model.uri", remedy=remedy
    )
    world.deploy(B, **FAST)
    assert world.run(30, lambda: world.condition("Stalled").get("status") == "True"), world.status()
    stalled = world.condition("Stalled")
    assert stalled["reason"] == "PickleCheckpoint"
    assert stalled["message"] == f"spec.model.uri: the weights are pickled; {remedy}"
    assert f"{before} serves meanwhile" in world.status()["message"]
    assert world.weights() == {before: 100}
    world.run(140)
    assert len(told(world, "PickleCheckpoint")) == 1, "said once, though the model is looked at again"


def test_a_model_that_appears_later_is_found() -> None:
    world = World()
    world.failures[A] = StepFailure(reason="ModelNotFound", message="there is nothing at pvc://models/a")
    world.deploy(A, **FAST)
    assert world.run(30, lambda: world.condition("Stalled").get("reason") == "ModelNotFound")
    del world.failures[A]
    assert world.run(300, lambda: ready(world)), world.status()


def test_a_missing_claim_is_named_and_found_once_it_exists() -> None:
    world = World()
    world.deploy("pvc://weights/a", **FAST)
    world.run(3)
    assert world.condition("Stalled")["reason"] == "ClaimMissing"
    assert "weights in namespace team-a" in world.status()["message"]
    world.kube.put({"kind": "PersistentVolumeClaim", "metadata": {"name": "weights", "namespace": NAMESPACE}})
    world.run(1)
    assert world.condition("Stalled")["status"] == "False", world.status()
    assert world.run(60, lambda: ready(world)), world.status()


def test_gates_that_cannot_be_met_stall_with_the_figures() -> None:
    world = World()
    world.build_failures[A] = StepFailure(
        reason="GateFailed",
        message="accuracy is 0.91, at least 0.99 is wanted",
        field="spec.engine.gates.evaluation.metrics[0]",
        remedy="lower the bound or train further",
    )
    world.deploy(A, **FAST)
    assert world.run(60, lambda: world.condition("Stalled").get("status") == "True"), world.status()
    assert world.condition("Built")["reason"] == "GateFailed"
    assert "0.91" in world.status()["message"]
    (build,) = builds(world).values()
    assert build["status"]["phase"] == "Failed"


def test_one_bad_object_does_not_hold_up_another() -> None:
    world = World()
    world.deploy(A, name="bad", engine={"runtime": "abacus"})
    world.deploy(A, **FAST)
    assert world.run(40, lambda: ready(world))
    assert world.condition("Stalled", "bad")["reason"] == "InvalidSpec"
    assert "spec.engine.runtime" in world.status("bad")["message"]


def test_nothing_is_written_once_everything_is_as_it_ought_to_be() -> None:
    world = served()
    world.run(30)
    world.rate = 0
    world.seconds.clear()
    world.run(40)
    done = len(world.kube.calls)
    world.run(100)
    written = [call for call in world.kube.calls[done:] if call.verb not in ("get", "list")]
    assert written == []


def test_what_someone_else_changed_is_put_right() -> None:
    world = served()
    world.run(2)
    server = Ref("Deployment", NAMESPACE, names.server("moderation", revision(world)))
    broken = {**world.kube.objects[server], "spec": {**world.kube.objects[server]["spec"], "replicas": 0}}
    world.kube.put(broken)
    world.run(2)
    assert world.kube.objects[server]["spec"]["replicas"] == 1
    world.kube.remove(Ref("Service", NAMESPACE, "moderation"))
    world.run(2)
    assert Ref("Service", NAMESPACE, "moderation") in world.kube.objects


def test_more_replicas_change_the_servers_and_need_no_canary() -> None:
    world = served()
    serving = revision(world)
    world.deploy(A, **FAST, serving={"replicas": {"min": 3}})
    world.run(5)
    assert revision(world) == serving
    assert world.kube.of_kind("Deployment")[names.server("moderation", serving)]["spec"]["replicas"] == 3
    assert ready(world)


def test_deployers_read_true_health_from_the_first_to_the_last_pass() -> None:
    world = World(rate=200, behaviours={B: Behaviour(slow=1.0)})
    schema = schema_of("TransformerDeployment", "status")
    seen: dict[str, list[str]] = {}
    for uri in (A, C, B):
        ref = world.deploy(uri, **FAST)
        healths = [kstatus.health(world.kube.objects[ref])] if "status" in world.kube.objects[ref] else []
        for _ in range(45):
            world.run(1)
            healths.append(kstatus.health(world.kube.objects[ref]))
            assert problems(schema, world.status()) == []
            if healths[-1] == "Current":
                assert world.status()["stable"]["uri"] == uri
                assert "canary" not in world.status()
                assert world.weights(), "Ready, but the routers know nobody yet"
        seen[uri] = [health for health, _ in groupby(healths)]
    assert seen == {A: ["InProgress", "Current"], C: ["InProgress", "Current"], B: ["InProgress", "Failed"]}


def test_a_pass_says_how_soon_the_next_is_wanted() -> None:
    world = served(b=Behaviour(slow=1.0))
    ref = Ref("TransformerDeployment", NAMESPACE, "moderation")
    world.run(30)
    assert reconcile_deployment(world.tools, ref) == IDLE_SECONDS
    world.deploy(B, **FAST)
    assert reconcile_deployment(world.tools, ref) == WORKING_SECONDS
    world.run(60, lambda: world.status().get("canary", {}).get("weight") == 10)
    assert reconcile_deployment(world.tools, ref) == JUDGING_SECONDS
    world.kube.remove(ref)
    assert reconcile_deployment(world.tools, ref) is None


def annotate(world: World, **annotations: str | None) -> None:
    """`kubectl annotate`; None removes one."""
    meta = world.kube.objects[Ref("TransformerDeployment", NAMESPACE, "moderation")]["metadata"]
    kept = {**meta.get("annotations", {}), **{f"tapchanger.dev/{name}": value for name, value in annotations.items()}}
    meta["annotations"] = {name: value for name, value in kept.items() if value is not None}


def promoted(world: World) -> tuple[str, str]:
    """B takes over; the revisions before and after."""
    before = revision(world)
    world.deploy(B, rollout={**FAST["rollout"], "watch": "10m"})
    assert world.run(120, lambda: ready(world)), world.status()
    return before, revision(world)


def test_a_model_that_breaks_after_its_promotion_is_taken_back() -> None:
    world = served()
    before, after = promoted(world)
    world.run(30)
    world.behaviours[B] = Behaviour(slow=1.0)
    broken = world.now
    assert world.run(60, lambda: bool(world.status().get("rejected"))), world.status()
    assert world.now - broken <= 15
    world.run(1)
    assert {r: w for r, w in world.weights().items() if w} == {before: 100}
    assert world.status()["rejected"][0]["revision"] == after
    assert [entry["event"] for entry in world.status()["history"]] == ["Started", "Promoted", "Suspected", "RolledBack"]
    assert not world.lost
    assert not world.errors


def test_a_load_that_slows_every_model_takes_nothing_back() -> None:
    world = served()
    _, after = promoted(world)
    world.run(30)
    world.behaviours[A] = world.behaviours[B] = Behaviour(slow=0.5)
    world.run(120)
    assert told(world, "Suspected")
    assert "rejected" not in world.status()
    world.behaviours[A] = world.behaviours[B] = Behaviour()
    assert world.run(900, lambda: ready(world)), world.status()
    assert revision(world) == after
    assert not world.lost


def test_a_watch_writes_seldom() -> None:
    world = served()
    promoted(world)
    world.run(5)
    before = len(world.kube.calls)
    world.run(60)
    assert 2 <= sum(call.verb == "status" for call in world.kube.calls[before:]) <= 12


def test_orders_in_annotations_are_carried_out_and_answered() -> None:
    world = served()
    world.rate = 0.2
    world.deploy(B, **FAST)
    assert world.run(40, lambda: world.status().get("canary", {}).get("weight") == 10), world.status()
    annotate(world, pause="release freeze")
    world.run(2)
    assert world.condition("Stalled")["reason"] == "Held"
    assert "held: release freeze" in world.status()["message"]
    annotate(world, pause=None, promote=f"{revision(world, 'canary')} seen in staging")
    world.run(3)
    assert world.status()["controls"][0]["done"], world.status()
    assert ready(world)
    assert world.status()["stable"]["uri"] == B
    assert not world.lost
