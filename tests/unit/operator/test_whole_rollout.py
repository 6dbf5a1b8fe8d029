"""Whole rollouts in a cluster in memory: every pass of the operator, from an empty namespace to a rollback."""

from __future__ import annotations

import pytest

from tests.support.world import Behaviour, World

FAST = {"rollout": {"steps": [{"weight": 10}, {"weight": 50}], "analysis": {"minRequests": 60}, "watch": "20s"}}


@pytest.fixture
def world() -> World:
    return World()


def test_from_nothing_to_the_first_revision(world: World) -> None:
    world.deploy(**FAST)
    assert world.run(40, lambda: world.condition("Ready").get("status") == "True"), world.status()
    stable = world.status()["stable"]
    world.run(1)
    assert world.weights() == {stable["revision"]: 100}
    world.run(60)
    print(world.status(), world.errors)
    print([(c.verb, c.ref) for c in world.kube.calls[-40:]])
    assert not world.errors
