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
    world = polled()
    assert polls(world) == []
    world.run(50)
    assert polls(world) == []
    world.run(20)
    assert len(polls(world)) == 1
    world.run(142)
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
