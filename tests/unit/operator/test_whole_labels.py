"""Whole rollouts that are judged by labels which come later, in a cluster in memory."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.history import Behaviour
from tests.support.schemas import problems, schema_of
from tests.support.world import World

A, B = "pvc://models/a", "pvc://models/b"
OBJECTIVES = [{"accuracy": 0.9, "minLabels": 40}, {"availability": 0.999}]


def rollout(timeout: str = "60s", watch: str = "0s", on: str = "Pause") -> dict[str, Any]:
    return {
        "steps": [{"weight": 20}, {"weight": 50}],
        "analysis": {"minRequests": 60, "timeout": timeout, "onInconclusive": on},
        "watch": watch,
    }


def served(policy: dict[str, Any], **behaviours: Behaviour) -> World:
    world = World(behaviours={f"pvc://models/{name}": one for name, one in behaviours.items()})
    world.deploy(A, slo={"objectives": OBJECTIVES}, rollout=policy)
    assert world.run(40, lambda: world.condition("Ready").get("status") == "True"), world.status()
    return world


GOOD = Behaviour(labelled=0.5, wrong=0.04, labels_after=5.0)
BAD = Behaviour(labelled=0.5, wrong=0.4, labels_after=5.0)


def test_a_canary_whose_labels_are_worse_is_rolled_back_for_accuracy() -> None:
    world = served(rollout(), a=GOOD, b=BAD)
    world.deploy(B, slo={"objectives": OBJECTIVES}, rollout=rollout())
    assert world.run(120, lambda: bool(world.status().get("rejected"))), world.status()
    rejection = world.status()["rejected"][-1]
    assert rejection["reason"] == "ObjectiveBreached"
    assert "labelled answers were wrong" in rejection["message"]
    assert "firstBadAt" not in rejection
    assert world.status()["analysis"].get("exemplars", []) == []


def test_a_canary_whose_labels_are_as_good_is_promoted_and_quality_is_told() -> None:
    world = served(rollout(), a=GOOD, b=GOOD)
    world.deploy(B, slo={"objectives": OBJECTIVES}, rollout=rollout())
    assert world.run(200, lambda: world.status()["stable"]["uri"] == B), world.status()
    world.run(40)
    quality = world.status()["quality"]
    assert quality["revision"] == world.status()["stable"]["revision"]
    assert quality["accuracy"] == pytest.approx(0.96, abs=0.01)
    assert quality["low"] < quality["accuracy"] < quality["high"]
    assert "90% right: 96" in " ".join(world.status()["slo"]["objectives"])
    assert problems(world.status(), schema_of("TransformerDeployment", "status")) == []


@pytest.mark.parametrize("on", ["Pause", "Promote", "Rollback"])
def test_labels_that_never_come_leave_it_to_on_inconclusive(on: str) -> None:
    world = served(rollout(on=on), a=GOOD, b=Behaviour())
    world.deploy(B, slo={"objectives": OBJECTIVES}, rollout=rollout(on=on))
    seen: set[str] = set()

    def over() -> bool:
        status = world.status()
        seen.add(status.get("analysis", {}).get("reason", ""))
        paused = bool(status.get("canary", {}).get("paused"))
        return paused or bool(status.get("rejected")) or status["stable"]["uri"] == B

    assert world.run(400, over), world.status()
    assert "TooFewLabels" in seen
    status = world.status()
    assert {"Pause": status.get("canary", {}).get("paused", False), "Promote": status["stable"]["uri"] == B}.get(
        on, bool(status.get("rejected"))
    )


def test_after_its_promotion_a_revision_goes_on_being_judged_by_labels() -> None:
    late = Behaviour(labelled=0.5, wrong=0.4, labels_after=25.0)
    policy = rollout(timeout="20s", watch="120s", on="Promote")
    world = served(policy, a=GOOD, b=late)
    world.deploy(B, slo={"objectives": OBJECTIVES}, rollout=policy)
    assert world.run(200, lambda: world.status()["stable"]["uri"] == B or bool(world.status().get("rejected")))
    assert world.run(300, lambda: bool(world.status().get("rejected"))), world.status()


def test_an_experiment_by_accuracy_finds_the_better_arm() -> None:
    world = World(behaviours={A: Behaviour(labelled=0.5, wrong=0.2), B: Behaviour(labelled=0.5, wrong=0.02)}, rate=80.0)
    world.deploy(
        A,
        slo={"objectives": OBJECTIVES},
        variants=[{"name": "b", "weight": 50, "model": {"uri": B}}],
        experiment={"metric": "accuracy", "minRequests": 100},
    )
    assert world.run(600, lambda: world.status().get("experiment", {}).get("verdict") == "Winner"), world.status()
    assert world.status()["experiment"]["winner"] == "b"
