"""The operator is killed at any of its calls: it goes on from there and comes to the same end."""

from __future__ import annotations

from typing import Any

import pytest

from tapchanger_operator.errors import Transient
from tests.support.fake_kube import Call, Killed
from tests.support.history import Behaviour
from tests.support.world import World, essence

POLICY: dict[str, Any] = {
    "rollout": {"steps": [{"weight": 50}], "analysis": {"minRequests": 60, "timeout": "6s"}, "watch": "5s"},
    "router": {"replicas": 1},
}
GOOD, BETTER, BAD = "pvc://models/a", "pvc://models/b", "pvc://models/c"
LONGEST_PASS = 23
"""More calls than any pass of the story makes."""


class Fault:
    """Raises at the `at`-th call of a pass, in every second second."""

    def __init__(self, world: World, at: int, error: BaseException) -> None:
        self.world, self.at, self.error = world, at, error
        self.longest = 0
        world.kube.fault = self

    def __call__(self, number: int, _: Call) -> None:
        position = number - self.world.begun
        self.longest = max(self.longest, position)
        if position == self.at and int(self.world.now) % 2:
            raise self.error


def story(at: int, error: BaseException) -> tuple[World, Fault]:
    """A first revision, a promotion and a rollback."""
    world = World(rate=200, behaviours={BAD: Behaviour(slow=1.0)})
    fault = Fault(world, at, error)
    for uri in (GOOD, BETTER, BAD):
        world.deploy(uri, **POLICY)
        world.run(30)
    world.run(14)
    return world, fault


@pytest.fixture(scope="module")
def undisturbed() -> World:
    world, fault = story(0, Killed())
    assert world.status()["stable"]["uri"] == BETTER
    assert [rejection["uri"] for rejection in world.status()["rejected"]] == [BAD]
    assert not world.lost
    assert fault.longest < LONGEST_PASS
    return world


@pytest.mark.parametrize("at", range(1, LONGEST_PASS))
def test_killed_at_any_call_it_comes_to_the_same_end(at: int, undisturbed: World) -> None:
    world, _ = story(at, Killed())
    assert essence(world) == essence(undisturbed)
    assert not world.lost
    assert not world.errors


@pytest.mark.parametrize("at", [3, 13])
def test_an_api_server_that_fails_now_and_then_changes_nothing_but_time(at: int, undisturbed: World) -> None:
    world, _ = story(at, Transient("ApiServerUnreachable", "connection refused"))
    assert essence(world) == essence(undisturbed)
    assert not world.lost
    assert world.errors
