"""Moving addresses: when they are asked, what new content leads to, and what a poll that fails does not disturb."""

from __future__ import annotations

from typing import Any

import pytest

from tapchanger_operator.api import reasons
from tapchanger_serving.contract.messages import Hardware, Inspection, StepFailure
from tests.support.samples import MODEL
from tests.support.world import World, digest_of

URI = "oci://registry.test/team/moderation:latest"
FAST: dict[str, Any] = {"rollout": {"steps": [{"weight": 50}], "watch": "10s", "analysis": {"minRequests": 20}}}


def polled(uri: str = URI, interval: str = "1m", **spec: Any) -> World:
    """A deployment that serves, whose address is polled."""
    world = World()
    world.deploy(**{**FAST, **spec, "model": {**MODEL, "uri": uri, "pollInterval": interval}})
    assert world.run(60, lambda: world.condition("Ready").get("status") == "True"), world.status()
    return world


def polls(world: World) -> list[str]:
    """Poll Jobs so far, by name and in order."""
    names: list[str] = []
    for call in world.kube.calls:
        name = getattr(call.ref, "name", "")
        if call.verb in ("apply", "create") and "-poll-" in name and name not in names:
            names.append(name)
    return names


def events(world: World, reason: str) -> list[str]:
    return [
        e["note"] if "note" in e else e["message"]
        for e in world.kube.of_kind("Event").values()
        if e["reason"] == reason
    ]


def test_an_address_is_asked_once_in_its_interval_and_not_at_the_same_second_as_others() -> None:
    world = polled(interval="5m")
    assert polls(world) == []
    world.run(290)
    assert polls(world) == []
    world.run(70)
    assert len(polls(world)) == 1
    world.run(740)
    assert len(polls(world)) == 3
    assert not [name for name in world.kube.of_kind("Job") if "-poll-" in name]


def test_a_poll_says_what_is_known_so_that_it_can_be_cheap() -> None:
    world = polled()
    assert world.run(400, lambda: bool([name for name in world.kube.of_kind("Job") if "-poll-" in name]))
    job = next(item for name, item in world.kube.of_kind("Job").items() if "-poll-" in name)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    known = Inspection.model_validate_json(container["args"][container["args"].index("--known") + 1])
    assert known.digest == digest_of(URI)


def test_new_content_becomes_a_new_revision_by_the_usual_canary() -> None:
    world = polled()
    before = world.status()["stable"]["revision"]
    world.digests[URI] = digest_of("another")
    assert world.run(400, lambda: "canary" in world.status()), world.status()
    assert world.status()["stable"]["revision"] == before
    assert world.status()["model"]["digest"] == digest_of("another")
    assert world.run(400, lambda: world.condition("Ready").get("status") == "True"), world.status()
    assert world.status()["stable"]["revision"] != before
    (told,) = events(world, reasons.MODEL_CHANGED)
    assert digest_of("another") in told


def test_a_poll_that_fails_is_told_once_and_disturbs_nothing() -> None:
    world = polled()
    before = world.status()
    world.failures[URI] = StepFailure(reason="AccessDenied", message="the registry does not let the build in")
    world.run(200)
    assert len(polls(world)) >= 2
    assert len(events(world, reasons.POLL_FAILED)) == 1
    assert "does not let the build in" in world.status()["model"]["poll"]["problem"]
    assert world.condition("Ready")["status"] == "True"
    assert world.status()["stable"]["revision"] == before["stable"]["revision"]
    del world.failures[URI]
    assert world.run(400, lambda: not world.status()["model"]["poll"].get("problem"))


@pytest.mark.parametrize("uri", [f"{URI}@sha256:{'a' * 64}", "pvc://models/a@sha256:" + "a" * 64])
def test_a_pinned_address_is_never_asked(uri: str) -> None:
    world = polled(uri)
    world.run(150)
    assert polls(world) == []
    assert "poll" not in world.status()["model"]


def test_without_an_interval_nothing_is_asked() -> None:
    world = World()
    world.deploy(URI)
    world.run(150)
    assert polls(world) == []


def test_nothing_is_asked_while_a_canary_is_under_way() -> None:
    slow = {"rollout": {"steps": [{"weight": 5}], "analysis": {"minRequests": 100_000, "timeout": "1h"}}}
    world = polled(**slow)
    world.digests[URI] = digest_of("another")
    assert world.run(400, lambda: "canary" in world.status())
    asked = len(polls(world))
    world.run(130)
    assert len(polls(world)) == asked
    assert "canary" in world.status()


def test_other_hardware_at_a_poll_is_no_reason_to_build_anew() -> None:
    world = polled()
    builds = set(world.kube.of_kind("EngineBuild"))
    world.hardware = Hardware(arch="arm64")
    world.run(75)
    assert len(polls(world)) == 1
    assert set(world.kube.of_kind("EngineBuild")) == builds


def test_an_operator_that_was_killed_finds_its_poll_again() -> None:
    world = polled()
    assert world.run(400, lambda: bool([name for name in world.kube.of_kind("Job") if "-poll-" in name]))
    world.tools = world.fresh_operator()
    assert world.run(60, lambda: not [name for name in world.kube.of_kind("Job") if "-poll-" in name])
    assert len(polls(world)) == 1


MOVING, OTHER = "oci://registry.test/team/next:latest", "oci://registry.test/team/other:latest"


def compared(*variants: dict[str, Any], **spec: Any) -> World:
    """A deployment with variants that all serve. `spec` adds fields to the base spec's model."""
    world = World()
    world.deploy(**FAST, model={**MODEL, "uri": URI, **spec}, variants=list(variants))
    assert world.run(90, lambda: world.condition("Ready").get("status") == "True"), world.status()
    return world


def arm(world: World, name: str) -> dict[str, Any]:
    return next(arm for arm in world.status()["arms"] if arm["name"] == name)


def test_a_variant_is_polled_and_new_content_takes_over_its_arm_alone() -> None:
    moving = {"name": "b", "weight": 30, "model": {"uri": MOVING, "pollInterval": "1m"}}
    world = compared(moving, {"name": "c", "weight": 20, "model": {"uri": OTHER}})
    before = {name: arm(world, name)["revision"] for name in ("control", "b", "c")}
    world.digests |= dict.fromkeys((URI, MOVING, OTHER), digest_of("another"))
    assert world.run(400, lambda: arm(world, "b")["revision"] != before["b"]), world.status()
    assert arm(world, "b")["model"]["digest"] == digest_of("another")
    assert {name: arm(world, name)["revision"] for name in ("control", "c")} == {k: before[k] for k in ("control", "c")}
    (told,) = events(world, reasons.MODEL_CHANGED)
    assert told.startswith(f"{MOVING} has new content")
    assert "poll" not in world.status()["model"]
    assert not world.lost


def test_a_variant_with_another_engine_follows_the_base_specs_model() -> None:
    world = compared({"name": "b", "weight": 30, "engine": {"precision": "int8"}}, pollInterval="1m")
    before = {name: arm(world, name)["revision"] for name in ("control", "b")}
    world.digests[URI] = digest_of("another")
    assert world.run(60 + 10, lambda: world.status()["model"]["digest"] == digest_of("another"))
    assert arm(world, "b")["model"]["digest"] == digest_of("another")
    assert len(polls(world)) == 1
    assert world.run(400, lambda: all(arm(world, name)["revision"] != before[name] for name in before)), world.status()
    assert len(events(world, reasons.MODEL_CHANGED)) == 1


def test_an_address_of_several_variants_is_asked_once_and_at_the_shortest_interval() -> None:
    slow = {"name": "b", "weight": 20, "model": {"uri": MOVING, "pollInterval": "1h"}}
    fast = {"name": "c", "weight": 20, "model": {"uri": MOVING, "pollInterval": "1m"}, "engine": {"precision": "int8"}}
    world = compared(slow, fast)
    world.run(75)
    assert len(polls(world)) == 1
    world.digests[MOVING] = digest_of("another")
    assert world.run(100, lambda: arm(world, "b")["model"]["digest"] == digest_of("another"))
    assert arm(world, "c")["model"]["digest"] == digest_of("another")


def test_variants_inherit_the_interval_and_each_address_has_its_own_poll() -> None:
    world = compared({"name": "b", "weight": 20, "model": {"uri": MOVING}}, pollInterval="1m")
    world.run(75)
    assert len(polls(world)) == 2
    world.failures[MOVING] = StepFailure(reason="AccessDenied", message="the registry does not let the build in")
    world.run(75)
    assert len(events(world, reasons.POLL_FAILED)) == 1
    assert "does not let" in arm(world, "b")["model"]["poll"]["problem"]
    assert not world.status()["model"]["poll"].get("problem")
    assert world.condition("Ready")["status"] == "True"


def test_nothing_is_asked_for_an_arm_whose_next_revision_starts() -> None:
    world = compared({"name": "b", "weight": 20, "model": {"uri": MOVING, "pollInterval": "1m"}})
    world.digests[MOVING] = digest_of("another")
    assert world.run(400, lambda: "next" in arm(world, "b"))
    asked = len(polls(world))
    assert world.run(60, lambda: "next" not in arm(world, "b"))
    assert len(polls(world)) == asked
