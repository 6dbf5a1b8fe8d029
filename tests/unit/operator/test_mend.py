"""An artifact that a server finds damaged is built again, once, and only if the word is newer than the build."""

from __future__ import annotations

from typing import Any

import pytest

from tapchanger_operator.api import reasons
from tapchanger_operator.api.base import timestamp
from tapchanger_operator.api.enginebuild import EngineBuildStatus
from tapchanger_operator.names import Ref
from tapchanger_operator.observe.pods import damage, trouble
from tapchanger_operator.snapshot import Damage, JobState
from tapchanger_operator.status.builds import compose, damaged
from tapchanger_serving.contract.names import EXIT_ARTIFACT_DAMAGED
from tests.support.samples import report
from tests.support.world import NAMESPACE, World

T0 = 1_700_000_000.0
LINE = '{"level": "error", "msg": "file model.xml of artifact sha256-0 has SHA-256 a, its manifest says b"}'


def init(code: int, at: float, where: str = "lastState") -> dict[str, Any]:
    """A pod whose init container ended."""
    ended = {"terminated": {"exitCode": code, "finishedAt": timestamp(at), "message": LINE}}
    waits = {"waiting": {"reason": "CrashLoopBackOff"}}
    state = {"state": waits, "lastState": ended} if where == "lastState" else {"state": ended, "lastState": {}}
    return {"metadata": {"name": "p"}, "status": {"initContainerStatuses": [{"name": "repository", **state}]}}


@pytest.mark.parametrize("where", ["state", "lastState"])
def test_the_init_containers_word_is_read_in_plain_words(where: str) -> None:
    pod = init(EXIT_ARTIFACT_DAMAGED, T0, where)
    found = damage([init(EXIT_ARTIFACT_DAMAGED, T0 - 60), pod])
    assert found is not None
    assert found.at == pytest.approx(T0)
    assert found.message == "file model.xml of artifact sha256-0 has SHA-256 a, its manifest says b"
    said = trouble([pod])
    assert said is not None
    assert (said.reason, said.message) == (reasons.ARTIFACT_DAMAGED, found.message)


def test_other_failures_are_no_damage() -> None:
    assert damage([init(1, T0)]) is None


def test_only_a_word_newer_than_the_build_sets_it_back() -> None:
    ready = compose("eb-1", EngineBuildStatus(), JobState("Succeeded", answer=report().dumps()), 1, T0)
    assert damaged(ready, Damage(T0 - 1, "old"), 1, T0 + 9) is None
    again = damaged(ready, Damage(T0 + 1, "new"), 1, T0 + 9)
    assert again is not None
    assert (again.phase, again.report) == ("Pending", None)
    assert {c.type: (c.status, c.reason) for c in again.conditions} == {
        "Ready": ("False", reasons.ARTIFACT_DAMAGED),
        "Stalled": ("False", reasons.ARTIFACT_DAMAGED),
    }
    assert damaged(again, Damage(T0 + 2, "newer"), 1, T0 + 9) is None


def spoil(world: World) -> None:
    """The stable revision's pods find their artifact damaged, now."""
    for ref, item in list(world.kube.objects.items()):
        if ref.kind == "Pod" and item["metadata"]["labels"].get("app.kubernetes.io/component") == "server":
            spoilt = init(EXIT_ARTIFACT_DAMAGED, world.now)["status"]
            world.kube.objects[ref] = {**item, "status": {**item["status"], **spoilt}}


def test_a_damaged_artifact_is_built_again_once_and_traffic_stays() -> None:
    world = World()
    world.deploy()
    assert world.run(60, until=lambda: world.condition("Ready").get("status") == "True")
    stable = world.status()["stable"]["revision"]
    (build,) = [ref for ref in world.kube.objects if ref.kind == "EngineBuild"]
    job = Ref("Job", NAMESPACE, build.name)
    before = world.kube.objects[job]["metadata"]["uid"]
    world.tick()
    spoil(world)
    world.one_pass(Ref("TransformerDeployment", NAMESPACE, "moderation"))
    status = world.kube.objects[build]["status"]
    assert status["phase"] == "Pending"
    assert "built again" in status["message"]
    assert job not in world.kube.objects
    events = [item for ref, item in world.kube.objects.items() if ref.kind == "Event"]
    assert any(event["reason"] == reasons.ARTIFACT_DAMAGED for event in events)
    word = world.now
    assert world.run(30, until=lambda: world.kube.objects[build]["status"]["phase"] == "Ready")
    assert world.kube.objects[job]["metadata"]["uid"] != before
    assert world.status()["stable"]["revision"] == stable
    again = world.kube.objects[job]["metadata"]["uid"]
    # The same pods still show their old word: it was about what has been replaced.
    for ref, item in list(world.kube.objects.items()):
        if ref.kind == "Pod" and item["metadata"]["labels"].get("app.kubernetes.io/component") == "server":
            old = init(EXIT_ARTIFACT_DAMAGED, word)["status"]
            world.kube.objects[ref] = {**item, "status": {**item["status"], **old}}
    world.one_pass(Ref("TransformerDeployment", NAMESPACE, "moderation"))
    assert world.kube.objects[job]["metadata"]["uid"] == again
    assert world.run(30, until=lambda: world.condition("Ready").get("status") == "True")
