"""Whole experiments in a cluster in memory: arms that start, change, win and go, and users that keep their arm."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tapchanger_operator import names
from tapchanger_operator.api.base import unix
from tapchanger_operator.api.reasons import ARM_SERVING, EXPERIMENT_WINNER
from tapchanger_operator.decide import slots
from tapchanger_operator.names import Ref
from tapchanger_serving.contract.messages import StepFailure
from tests.support import kstatus
from tests.support.fake_kube import Call, Killed
from tests.support.history import Behaviour
from tests.support.schemas import problems, schema_of
from tests.support.world import NAMESPACE, World, essence

A, B, C, D = (f"pvc://models/{name}" for name in "abcd")
SLO = {"objectives": [{"latency": "50ms", "target": 0.99}, {"availability": 0.999}]}
ROLLOUT = {"steps": [{"weight": 10}, {"weight": 50}], "analysis": {"minRequests": 60, "timeout": "45s"}, "watch": "20s"}
STICKY = {"stickyBy": {"header": "x-user-id"}, "minRequests": 200}


def variant(name: str, weight: int, uri: str) -> dict[str, Any]:
    return {"name": name, "weight": weight, "model": {"uri": uri}}


TWO = [variant("b", 30, B), variant("c", 20, C)]


def apply(world: World, variants: list[dict[str, Any]], uri: str = A, **experiment: Any) -> None:
    parts: dict[str, Any] = {"variants": variants, "experiment": {**STICKY, **experiment}} if variants else {}
    world.deploy(uri, slo=SLO, rollout=ROLLOUT, **parts)


def ready(world: World) -> bool:
    return world.condition("Ready").get("status") == "True"


def running(rate: float = 40.0, **behaviours: Behaviour) -> World:
    """A world in which three arms serve."""
    world = World(behaviours={f"pvc://models/{name}": behaviour for name, behaviour in behaviours.items()}, rate=rate)
    apply(world, TWO)
    assert world.run(60, lambda: ready(world)), world.status()
    world.run(2)
    return world


def arm(world: World, name: str) -> dict[str, Any]:
    return next(arm for arm in world.status()["arms"] if arm["name"] == name)


def revisions(world: World) -> dict[str, str]:
    return {arm["name"]: arm.get("revision", "") for arm in world.status()["arms"]}


def shares(world: World) -> dict[str, int]:
    """What the router does at present, by arm."""
    by_revision = world.weights()
    return {name: by_revision.get(revision, 0) for name, revision in revisions(world).items()}


def assigned(world: World) -> list[str]:
    runs = [slots.Run(run["arm"], run["from"], run["to"]) for run in world.status()["experiment"]["slots"]]
    return slots.owners_of(runs)


def told(world: World, reason: str) -> list[str]:
    return [e["message"] for e in world.kube.of_kind("Event").values() if e["reason"] == reason]


def spec(world: World) -> Any:
    return world.kube.objects[Ref("TransformerDeployment", NAMESPACE, "moderation")]["spec"]


def test_three_arms_serve_their_shares_and_the_status_has_a_row_for_each() -> None:
    world = running()
    assert shares(world) == {"control": 50, "b": 30, "c": 20}
    assert [(row["name"], row["uri"], row["weight"], row["ready"]) for row in world.status()["arms"]] == [
        ("control", A, 50, 1), ("b", B, 30, 1), ("c", C, 20, 1),
    ]  # fmt: skip
    assert len(set(revisions(world).values())) == 3
    routes = json.loads(
        world.kube.objects[Ref("ConfigMap", NAMESPACE, "moderation-router")]["data"]["routes-grpc.json"]
    )
    action = routes["resources"][0]["virtual_hosts"][0]["routes"][0]["route"]
    assert action["hash_policy"] == [{"header": {"header_name": "x-user-id"}}]
    assert action["weighted_clusters"]["use_hash_policy"] is True
    assert len(told(world, ARM_SERVING)) == 2
    world.run(60)
    row = arm(world, "b")
    figures = {figure["metric"]: figure for figure in row["figures"]}
    assert figures["latency"]["count"] == figures["availability"]["count"] == row["requests"] > 300
    assert figures["latency"]["low"] < figures["latency"]["mean"] == 1.0 == figures["latency"]["high"]
    assert figures["feedback"]["count"] == 0
    assert (
        f"{revisions(world)['control']} serves control; experiment (control 50 %, b 30 %, c 20 %)"
        in world.status()["message"]
    )
    assert not [c for c in world.status()["conditions"] if "serves all requests" in c["message"]]
    assert problems(schema_of("TransformerDeployment", "status"), world.status()) == []
    assert not world.lost
    assert not world.errors


def test_arms_that_start_leave_their_users_to_control() -> None:
    world = World(behaviours={C: Behaviour(starts=False)})
    apply(world, TWO)
    world.run(60)
    assert shares(world) == {"control": 70, "b": 30, "c": 0}
    assert not ready(world)
    assert world.condition("Progressing")["reason"] == "ArmStarting"
    assert "variant c: servers of" in world.status()["message"]
    assert world.condition("Serving")["status"] == "True"
    world.now += 700
    world.run(3)
    assert world.condition("Stalled")["reason"] == "ArmStarting"
    assert "were not ready after 10 minutes" in world.condition("Stalled")["message"]
    assert kstatus.health(world.kube.objects[Ref("TransformerDeployment", NAMESPACE, "moderation")]) == "Failed"
    world.behaviours[C] = Behaviour()
    assert world.run(20, lambda: ready(world)), world.status()
    world.run(1)
    assert shares(world) == {"control": 50, "b": 30, "c": 20}
    assert not world.lost


def test_a_change_of_weights_moves_the_forced_slots_only_and_builds_nothing() -> None:
    world = running()
    before, builds = assigned(world), set(world.kube.of_kind("EngineBuild"))
    apply(world, [variant("b", 20, B), variant("c", 20, C)])
    world.run(3)
    after = assigned(world)
    assert {(old, new) for old, new in zip(before, after, strict=True) if old != new} == {("b", "control")}
    assert sum(old != new for old, new in zip(before, after, strict=True)) == 100
    assert shares(world) == {"control": 60, "b": 20, "c": 20}
    assert set(world.kube.of_kind("EngineBuild")) == builds
    assert not world.lost


def test_new_content_of_a_variant_takes_over_its_arm_when_it_is_ready_and_nobody_else_moves() -> None:
    world = running()
    before, old = assigned(world), revisions(world)
    apply(world, [variant("b", 30, D), variant("c", 20, C)])
    assert world.run(60, lambda: not ready(world))
    assert shares(world) == {"control": 50, "b": 30, "c": 20}
    assert world.run(60, lambda: ready(world)), world.status()
    world.run(1)
    assert assigned(world) == before
    now = revisions(world)
    assert now["b"] != old["b"]
    assert (now["control"], now["c"]) == (old["control"], old["c"])
    assert world.weights()[now["b"]] == 30
    world.run(30)
    assert names.server("moderation", old["b"]) not in world.kube.of_kind("Deployment")
    assert not world.lost
    assert not world.errors


def test_a_worse_arm_never_wins_and_equal_ones_do_not_either() -> None:
    world = running(b=Behaviour(slow=0.3))
    world.run(300)
    experiment = world.status()["experiment"]
    assert (experiment["verdict"], experiment.get("winner")) == ("Running", None)
    assert arm(world, "b")["difference"]["high"] < 0
    assert arm(world, "b")["best"] == 0.0
    assert world.condition("Experiment")["status"] == "Unknown"
    assert ready(world)
    assert shares(world) == {"control": 50, "b": 30, "c": 20}
    assert told(world, EXPERIMENT_WINNER) == []


def test_a_winner_is_told_once_and_changes_nothing_unless_asked_to() -> None:
    world = running(a=Behaviour(slow=0.3), c=Behaviour(slow=0.2))
    wanted = dict(spec(world))
    assert world.run(600, lambda: bool(world.status()["experiment"].get("winner"))), world.status()
    world.run(60)
    assert world.status()["experiment"]["winner"] == "b"
    assert world.condition("Experiment")["status"] == "True"
    assert len(told(world, EXPERIMENT_WINNER)) == 1
    assert "b is better than every other arm" in told(world, EXPERIMENT_WINNER)[0]
    assert shares(world) == {"control": 50, "b": 30, "c": 20}
    assert arm(world, "b")["difference"]["low"] > 0
    assert spec(world) == wanted


def won() -> World:
    """A world in which b has won all requests."""
    world = running(a=Behaviour(slow=0.3), c=Behaviour(slow=0.2))
    apply(world, TWO, winner="Auto")
    assert world.run(600, lambda: bool(world.status()["experiment"].get("winner"))), world.status()
    world.run(2)
    return world


def test_auto_gives_the_winner_all_requests_until_the_spec_changes() -> None:
    world = won()
    wanted = dict(spec(world))
    assert shares(world) == {"control": 0, "b": 100, "c": 0}
    assert {row["name"]: row["weight"] for row in world.status()["arms"]} == shares(world)
    world.run(120)
    world.tools = world.fresh_operator()
    world.run(5)
    assert shares(world) == {"control": 0, "b": 100, "c": 0}
    assert spec(world) == wanted
    assert ready(world)
    assert "it gets all requests until the spec changes" in world.status()["message"]
    apply(world, [variant("b", 40, B), variant("c", 10, C)], winner="Auto")
    world.run(3)
    assert shares(world) == {"control": 50, "b": 40, "c": 10}
    assert "winner" not in world.status()["experiment"]
    assert not world.lost


def pause(world: World, value: str | None) -> None:
    meta = world.kube.objects[Ref("TransformerDeployment", NAMESPACE, "moderation")]["metadata"]
    meta["annotations"] = {} if value is None else {"tapchanger.dev/pause": value}


def test_a_held_rollout_gives_no_arm_to_new_content_until_it_is_let_go() -> None:
    world = running()
    old = revisions(world)["b"]
    pause(world, "release freeze")
    apply(world, [variant("b", 30, D), variant("c", 20, C)])
    pause(world, "release freeze")
    world.run(40)
    assert revisions(world)["b"] == old
    assert "is ready and held by the annotation tapchanger.dev/pause" in world.status()["message"]
    pause(world, None)
    assert world.run(10, lambda: ready(world)), world.status()
    assert revisions(world)["b"] != old
    assert not world.lost


def test_a_held_rollout_gives_a_winner_nothing_until_it_is_let_go() -> None:
    world = running(a=Behaviour(slow=0.3), c=Behaviour(slow=0.2))
    apply(world, TWO, winner="Auto")
    pause(world, "release freeze")
    assert world.run(600, lambda: bool(world.status()["experiment"].get("winner"))), world.status()
    world.run(20)
    assert shares(world) == {"control": 50, "b": 30, "c": 20}
    pause(world, None)
    world.run(4)
    assert shares(world) == {"control": 0, "b": 100, "c": 0}
    assert len(told(world, EXPERIMENT_WINNER)) == 2


def test_a_winner_that_becomes_the_base_spec_is_promoted_at_once() -> None:
    world = won()
    winner, control = revisions(world)["b"], revisions(world)["control"]
    world.weights_seen.clear()
    apply(world, [], uri=B)
    assert world.run(60, lambda: ready(world)), world.status()
    assert world.status()["stable"]["revision"] == winner
    assert {split.get(winner, 0) for split in world.weights_seen} == {100}
    assert "arms" not in world.status()
    assert "experiment" not in world.status()
    assert world.condition("Experiment") == {}
    world.run(60)
    assert names.server("moderation", control) not in world.kube.of_kind("Deployment")
    assert len(world.kube.of_kind("EngineBuild")) == 1
    assert not world.lost
    assert not world.errors


def test_a_canary_of_the_base_spec_takes_its_share_from_control_and_nothing_is_counted_meanwhile() -> None:
    world = running()
    world.run(40)
    b, c = revisions(world)["b"], revisions(world)["c"]
    apply(world, TWO, uri=D)
    assert world.run(60, lambda: world.status().get("canary", {}).get("weight") == 50), world.status()
    world.run(1)
    assert (world.weights()[b], world.weights()[c]) == (30, 20)
    assert world.weights()[world.status()["canary"]["revision"]] == 25
    assert "nothing is counted while" in world.status()["experiment"]["message"]
    assert world.run(200, lambda: ready(world)), world.status()
    world.run(1)
    assert shares(world) == {"control": 50, "b": 30, "c": 20}
    assert arm(world, "control")["uri"] == D
    assert arm(world, "b")["requests"] == 0, "the figures of the old control say nothing of the new one"
    world.run(60)
    assert arm(world, "b")["requests"] > 0
    assert not world.lost


def test_a_bad_canary_is_rolled_back_and_the_experiment_goes_on_with_its_figures() -> None:
    world = running(rate=200, d=Behaviour(slow=1.0))
    world.run(40)
    counted = arm(world, "b")["requests"]
    assert counted
    apply(world, TWO, uri=D)
    assert world.run(120, lambda: bool(world.status().get("rejected"))), world.status()
    world.run(40)
    assert shares(world) == {"control": 50, "b": 30, "c": 20}
    assert not world.lost


def test_a_variant_that_cannot_be_built_stalls_and_the_others_serve() -> None:
    world = World(build_failures={C: StepFailure(reason="GateFailed", message="accuracy 0.7, needs 0.9")})
    apply(world, TWO)
    world.run(60)
    assert world.condition("Stalled")["reason"] == "GateFailed"
    assert "variant c: engine eb-" in world.condition("Stalled")["message"]
    assert shares(world) == {"control": 70, "b": 30, "c": 0}
    assert "waits for the servers of c" in world.status()["experiment"]["message"]
    apply(world, [variant("b", 30, B), variant("c", 20, D)])
    assert world.run(60, lambda: ready(world)), world.status()
    assert not world.lost


def test_a_variant_whose_claim_is_missing_says_so() -> None:
    world = World()
    apply(world, [variant("b", 30, "pvc://nowhere/b")])
    world.run(40)
    assert world.condition("Stalled")["reason"] == "ClaimMissing"
    assert "variant b: spec.model.uri pvc://nowhere/b" in world.status()["message"]
    assert world.condition("Serving")["status"] == "True"


def test_the_same_content_twice_is_told_and_not_served_twice() -> None:
    world = World()
    apply(world, [variant("b", 30, A), variant("c", 20, C), variant("d", 10, C + "?copy")])
    world.run(60)
    assert shares(world)["control"] == 80
    assert world.condition("Stalled")["reason"] == "SameContent"
    assert "its content is that of another arm" in arm(world, "b")["message"]
    assert "its content is that of another arm" in arm(world, "d")["message"]
    assert shares(world)["c"] == 20


def test_a_variant_may_differ_by_its_engine_alone() -> None:
    world = World()
    apply(world, [{"name": "int8", "weight": 25, "engine": {"precision": "int8"}}])
    assert world.run(60, lambda: ready(world)), world.status()
    world.run(1)
    assert shares(world) == {"control": 75, "int8": 25}
    inspections = [name for name in world.kube.of_kind("Job") if "-inspect-" in name]
    assert len(inspections) == 1, "the same model is read once"
    builds = [build["spec"] for build in world.kube.of_kind("EngineBuild").values()]
    assert sorted(build["precision"] for build in builds) == ["auto", "int8"]
    assert len({build["model"]["digest"] for build in builds}) == 1


def test_without_variants_control_has_everything_and_what_they_needed_goes() -> None:
    world = running()
    apply(world, [])
    world.run(3)
    stable = world.status()["stable"]["revision"]
    assert {r: w for r, w in world.weights().items() if w} == {stable: 100}
    world.run(30)
    servers = [d for d in world.kube.of_kind("Deployment") if not d.endswith("router")]
    assert servers == [names.server("moderation", stable)]
    assert len(world.kube.of_kind("EngineBuild")) == 1
    assert not world.lost
    assert not world.errors


def test_a_silent_observer_leaves_the_experiment_inconclusive_until_it_is_back() -> None:
    world = running(a=Behaviour(slow=0.3), c=Behaviour(slow=0.2))
    world.observer_silent = True
    world.run(120)
    assert world.status()["experiment"]["verdict"] == "Inconclusive"
    assert "no figures since" in world.status()["experiment"]["message"]
    world.observer_silent = False
    assert world.run(600, lambda: world.status()["experiment"]["verdict"] == "Winner"), world.status()


def test_arms_can_be_compared_by_what_users_say() -> None:
    world = World(behaviours={A: Behaviour(liked=0.6), B: Behaviour(liked=0.7), C: Behaviour(liked=0.5)})
    apply(world, TWO, metric="feedback", minEffect=0.02)
    assert world.run(900, lambda: bool(world.status().get("experiment", {}).get("winner"))), world.status()
    assert world.status()["experiment"]["winner"] == "b"
    assert arm(world, "b")["difference"]["estimate"] == pytest.approx(0.1, abs=1e-6)


def test_equal_arms_are_shown_to_be_alike_where_a_smallest_effect_is_named() -> None:
    world = running()
    apply(world, TWO, minEffect=0.05)
    assert world.run(600, lambda: world.status()["experiment"]["verdict"] == "NoDifference"), world.status()
    assert world.condition("Experiment")["reason"] == "NoDifference"
    assert ready(world)


def test_an_experiment_that_takes_too_long_says_so() -> None:
    world = running()
    apply(world, TWO, timeout="2m")
    assert world.run(300, lambda: world.status()["experiment"]["verdict"] == "Inconclusive"), world.status()
    assert "undecided after 2m" in world.condition("Experiment")["message"]


def test_requests_are_counted_once_whenever_the_operator_looks() -> None:
    world = running()
    for pause in (1, 13, 47, 3, 120):
        world.run(pause, operator=False)
        world.tools = world.fresh_operator()
        world.run(1)
    world.run(30)
    experiment = world.status()["experiment"]
    since, until = unix(experiment["since"]), unix(experiment["countedUntil"])
    for name, revision in revisions(world).items():
        seen = sum(second.requests[revision] for second in world.seconds if since <= second.at < until)
        assert arm(world, name)["requests"] == seen > 0


def story(at: int) -> World:
    """Three arms, other weights and content, and none again, killed at the `at`-th call of every second pass."""
    world = World()

    def fault(number: int, _: Call) -> None:
        if number - world.begun == at and int(world.now) % 2:
            raise Killed

    world.kube.fault = fault
    apply(world, TWO)
    world.run(40)
    apply(world, [variant("b", 20, D), variant("c", 20, C)])
    world.run(40)
    seen = assigned(world)
    assert {arm: seen.count(arm) for arm in set(seen)} == {"control": 600, "b": 200, "c": 200}
    assert shares(world) == {"control": 60, "b": 20, "c": 20}
    apply(world, [])
    world.run(24)
    return world


@pytest.fixture(scope="module")
def undisturbed() -> World:
    return story(0)


@pytest.mark.parametrize("at", range(1, 40, 4))
def test_killed_at_any_call_the_arms_come_to_the_same_end(at: int, undisturbed: World) -> None:
    world = story(at)
    assert essence(world) == essence(undisturbed)
    assert not world.lost
    assert not world.errors


CHANGES: list[list[dict[str, Any]]] = [
    [],
    TWO,
    [variant("b", 20, B), variant("c", 20, C)],
    [variant("b", 30, D), variant("c", 20, C)],
    [variant("b", 1, C), variant("c", 98, B)],
    [variant("b", 30, A)],
]


@pytest.mark.parametrize("seed", range(10))
def test_no_request_is_lost_whatever_the_owner_does(seed: int) -> None:
    order = random.Random(seed)
    world = World(rate=60, behaviours={C: Behaviour(slow=order.choice([0.0, 0.3])), D: Behaviour(slow=1.0)})
    apply(world, TWO)
    for _ in range(7):
        if order.random() < 0.7:
            apply(world, order.choice(CHANGES), order.choice([A, A, B, D]), winner=order.choice(["Auto", "Manual"]))
        else:
            world.tools = world.fresh_operator()
        world.run(order.choice([1, 3, 8, 30]), operator=order.random() < 0.9)
        assert not world.lost
    apply(world, TWO)
    assert world.run(200, lambda: ready(world)), world.status()
    world.run(2)
    assert shares(world) == {"control": 50, "b": 30, "c": 20}
    assert not world.lost
    assert not world.errors
