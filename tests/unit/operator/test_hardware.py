"""Nodes that come, go and change, and what becomes of the engines that were built on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tapchanger_operator.api import reasons
from tapchanger_operator.errors import Transient
from tapchanger_operator.resolve.reprobe import HOLD_SECONDS
from tapchanger_serving.contract.messages import Gpu, Hardware, StepFailure
from tests.support.fake_kube import Call
from tests.support.samples import HARDWARE
from tests.support.world import World

AVX2 = Hardware(arch="amd64", instruction_sets=("avx2", "avx512f"))
MORE = Hardware(arch="amd64", instruction_sets=(*HARDWARE.instruction_sets, "avx512_vnni"))
L4 = HARDWARE.model_copy(update={"gpu": Gpu(product="NVIDIA L4", compute_capability="8.9", driver="570.10.01")})
NEXT_DRIVER = HARDWARE.model_copy(update={"gpu": Gpu(product="NVIDIA L4", compute_capability="8.9", driver="580.1")})
FAST: dict[str, Any] = {"rollout": {"steps": [{"weight": 50}], "watch": "0s", "analysis": {"minRequests": 20}}}
LONG = 2 * HOLD_SECONDS + 120


def serving(*machines: Hardware, labelled: bool = True, **spec: Any) -> World:
    """A deployment that serves on nodes n0, n1, … of these machines."""
    world = World()
    for number, machine in enumerate(machines):
        world.add_node(f"n{number}", machine, labelled=labelled)
    world.deploy(**{**FAST, **spec})
    assert ready(world, 90), world.status()
    return world


def ready(world: World, seconds: float = 400) -> bool:
    return world.run(seconds, lambda: world.condition("Ready").get("status") == "True")


def later(world: World, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
    """Lets `seconds` pass with a pass of the operator every 20, as where nothing goes on. True as soon as `until()` holds."""
    for _ in range(round(seconds / 20)):
        world.run(20, operator=False)
        world.passes()
        world.seconds.keep(100)
        if until():
            return True
    return False


def probes(world: World) -> set[str]:
    return {call.ref.name for call in world.kube.calls if call.verb == "apply" and "-probe-" in call.ref.name}


def told(world: World, reason: str) -> list[str]:
    return [event["message"] for event in world.kube.of_kind("Event").values() if event["reason"] == reason]


def builds(world: World) -> dict[str, Any]:
    return {name: item["spec"]["hardware"] for name, item in world.kube.of_kind("EngineBuild").items()}


def replace_all(world: World, *machines: Hardware, labelled: bool = True) -> None:
    """The pool gets other nodes, the new ones first."""
    old = list(world.machines)
    for number, machine in enumerate(machines):
        world.add_node(f"new{number}", machine, labelled=labelled)
    for name in old:
        world.remove_node(name)


def test_a_pool_of_other_hardware_gets_an_engine_of_its_own_by_the_usual_canary() -> None:
    world = serving(HARDWARE, HARDWARE)
    before = world.status()["stable"]["revision"]
    replace_all(world, MORE, MORE)
    assert later(world, LONG, lambda: "canary" in world.status()), world.status()
    assert world.status()["stable"]["revision"] == before
    assert ready(world)
    assert world.status()["stable"]["revision"] != before
    assert world.status()["model"]["inspection"]["hardware"] == MORE.model_dump(
        mode="json", by_alias=True, exclude_none=True
    )
    (event,) = told(world, reasons.HARDWARE_CHANGED)
    assert "were amd64 with amx_bf16, amx_tile, avx2, avx512f and are amd64 with amx_bf16, amx_tile" in event
    assert "avx512_vnni" in event
    assert len(probes(world)) == 1
    later(world, LONG)
    assert len(probes(world)) == 1
    assert not world.errors


def test_a_new_driver_on_the_same_nodes_is_noticed() -> None:
    world = serving(L4)
    world.change_node("n0", NEXT_DRIVER)
    assert later(world, LONG, lambda: "canary" in world.status()), world.status()
    assert ready(world)
    (event,) = told(world, reasons.HARDWARE_CHANGED)
    assert "driver 570" in event
    assert "driver 580" in event


@pytest.mark.parametrize("labelled", [True, False])
def test_a_node_that_comes_and_goes_causes_nothing(labelled: bool) -> None:
    world = serving(HARDWARE, HARDWARE, labelled=labelled)
    for _ in range(3):
        world.add_node("extra", AVX2, labelled=labelled)
        later(world, HOLD_SECONDS)
        world.remove_node("extra")
        later(world, HOLD_SECONDS)
    world.remove_node("n0")
    later(world, LONG)
    assert not probes(world)
    assert len(builds(world)) == 1


def test_nodes_that_are_others_for_a_short_time_cause_nothing() -> None:
    world = serving(HARDWARE)
    for _ in range(3):
        world.change_node("n0", AVX2)
        later(world, HOLD_SECONDS - 70)
        assert "othersSince" in world.status()["hardware"]
        world.change_node("n0", HARDWARE)
        later(world, 140)
        assert "othersSince" not in world.status()["hardware"]
    assert not probes(world)


def test_discovery_that_is_installed_later_is_looked_at_once_and_changes_nothing() -> None:
    world = serving(HARDWARE, labelled=False)
    revision = world.status()["stable"]["revision"]
    world.change_node("n0", HARDWARE)
    later(world, 2 * LONG)
    assert len(probes(world)) == 1
    assert world.status()["stable"]["revision"] == revision
    assert not told(world, reasons.HARDWARE_CHANGED)
    assert not [name for name in world.kube.of_kind("Job") if "-probe-" in name]


@pytest.mark.parametrize("machine", [HARDWARE, MORE])
def test_without_labels_the_hardware_is_looked_at_when_every_node_was_replaced(machine: Hardware) -> None:
    world = serving(HARDWARE, HARDWARE, labelled=False)
    world.add_node("n2", machine, labelled=False)
    world.remove_node("n0")
    later(world, LONG)
    assert not probes(world)
    replace_all(world, machine, labelled=False)
    later(world, LONG)
    assert len(probes(world)) == 1
    assert bool(told(world, reasons.HARDWARE_CHANGED)) == (machine != HARDWARE)


def test_when_the_last_node_that_can_run_the_engine_goes_one_is_built_for_the_rest() -> None:
    world = serving(HARDWARE, AVX2)
    world.remove_node("n0")
    stalled = later(
        world, HOLD_SECONDS, lambda: world.condition("Stalled").get("reason") == reasons.ENGINE_INCOMPATIBLE
    )
    assert stalled, world.status()
    assert "of the one node that the template allows, 1 lacks amx_bf16, amx_tile" in world.status()["message"]
    assert world.condition("Serving")["reason"] == reasons.ENGINE_INCOMPATIBLE
    assert later(world, LONG, lambda: "canary" in world.status())
    assert world.condition("Stalled")["status"] == "False"
    assert ready(world, 600), world.status()
    assert {tuple(found["instructionSets"]) for found in builds(world).values()} >= {AVX2.instruction_sets}


def test_nodes_without_labels_that_lack_something_are_named_by_the_init_containers_word() -> None:
    world = serving(HARDWARE, labelled=False)
    world.add_node("old", AVX2, labelled=False)
    world.remove_node("n0")
    assert world.run(60, lambda: world.condition("Stalled").get("status") == "True"), world.status()
    stalled = world.condition("Stalled")
    assert stalled["reason"] == reasons.ENGINE_INCOMPATIBLE
    assert "node old: it needs amx_bf16, amx_tile" in stalled["message"]
    assert "serving.template.nodeSelector" in stalled["message"]
    assert told(world, reasons.ENGINE_INCOMPATIBLE)
    assert not world.errors


def test_servers_that_only_some_nodes_can_run_say_how_many_lack_what() -> None:
    world = serving(HARDWARE, AVX2, AVX2)
    world.change_node("n0", HARDWARE)
    world.kube.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n0"}, "spec": {"unschedulable": True}})
    pod = next(name for name in world.kube.of_kind("Pod") if world.status()["stable"]["revision"] in name)
    world._placed[pod] = None
    assert world.run(90, lambda: world.condition("Serving").get("reason") == reasons.NO_NODE_FITS), world.status()
    assert "(of 3 nodes that the template allows, 2 lack amx_bf16, amx_tile)" in world.condition("Serving")["message"]


def test_a_canary_whose_nodes_lack_its_hardware_is_not_judged_by_its_answers() -> None:
    world = serving(HARDWARE, labelled=False, rollout={"steps": [{"weight": 10}], "analysis": {"minRequests": 100_000}})
    world.deploy(
        "pvc://models/b", **{**FAST, "rollout": {"steps": [{"weight": 10}], "analysis": {"minRequests": 100_000}}}
    )
    assert world.run(120, lambda: world.status().get("canary", {}).get("weight") == 10), world.status()
    canary = world.status()["canary"]["revision"]
    world.add_node("old", AVX2, labelled=False)
    world._placed[next(name for name in world.kube.of_kind("Pod") if canary in name)] = "old"
    assert world.run(60, lambda: "canary" not in world.status()), world.status()
    (rejection,) = world.status()["rejected"]
    assert rejection["reason"] == reasons.ENGINE_INCOMPATIBLE
    assert "node old: it needs" in rejection["message"]


def test_a_look_that_fails_is_repeated_and_disturbs_nothing() -> None:
    world = serving(HARDWARE)
    before = world.status()["stable"]
    world.failures["probe"] = StepFailure(reason="BuildCrashed", message="the step was killed")
    world.change_node("n0", MORE)
    later(world, LONG, lambda: bool(world.status()["hardware"].get("problem")))
    assert world.status()["hardware"]["problem"] == "the step was killed"
    assert world.condition("Ready")["status"] == "True"
    assert world.status()["stable"]["revision"] == before["revision"]
    del world.failures["probe"]
    assert world.run(400, lambda: bool(told(world, reasons.HARDWARE_CHANGED)))
    assert "problem" not in world.status()["hardware"]


def test_an_operator_that_was_killed_finds_its_look_again() -> None:
    world = serving(HARDWARE)
    world.change_node("n0", MORE)
    assert later(world, LONG, lambda: bool([name for name in world.kube.of_kind("Job") if "-probe-" in name]))
    world.tools = world.fresh_operator()
    assert world.run(60, lambda: bool(told(world, reasons.HARDWARE_CHANGED)))
    assert len(probes(world)) == 1


def test_nodes_that_cannot_be_read_are_no_news() -> None:
    world = serving(HARDWARE)
    kinds = world.status()["hardware"]

    def fault(number: int, call: Call) -> None:
        if call.ref.kind == "Node":
            raise Transient("ApiServerError", "403 nodes is forbidden")

    world.kube.fault = fault
    world.change_node("n0", MORE)
    later(world, LONG)
    assert world.status()["hardware"] == kinds
    assert not probes(world)


def test_an_empty_pool_is_no_news() -> None:
    world = serving(
        HARDWARE,
        serving={
            "template": {"tolerations": [{"operator": "Exists"}], "nodeSelector": {"kubernetes.io/hostname": "n0"}}
        },
    )
    world.add_node("other", MORE)
    world.remove_node("n0")
    later(world, LONG)
    assert not probes(world)


def test_a_new_builder_image_makes_a_new_engine_that_goes_through_a_canary() -> None:
    world = serving(HARDWARE)
    before, old = world.status()["stable"]["revision"], set(builds(world))
    settings = world.tools.settings
    images = replace(settings.images, builder="registry.test/builder@sha256:" + "1" * 64)
    world.tools = replace(world.tools, settings=replace(settings, images=images))
    assert world.run(120, lambda: "canary" in world.status()), world.status()
    assert world.status()["stable"]["revision"] == before
    assert set(builds(world)) > old
    assert ready(world)
    assert world.status()["stable"]["revision"] != before


def test_every_arm_of_an_experiment_gets_an_engine_for_the_new_nodes() -> None:
    variants = [{"name": "b", "weight": 20, "model": {"uri": "pvc://models/b"}}]
    world = serving(HARDWARE, variants=variants)
    assert world.run(60, lambda: len(world.status().get("arms", [])) == 2 and world.status()["arms"][1].get("revision"))
    replace_all(world, MORE)
    assert later(world, LONG, lambda: bool(told(world, reasons.HARDWARE_CHANGED))), world.status()
    assert world.run(60, lambda: len([f for f in builds(world).values() if "avx512_vnni" in f["instructionSets"]]) == 2)
