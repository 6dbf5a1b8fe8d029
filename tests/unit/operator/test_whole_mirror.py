"""Copied requests before the first step: what a canary answers decides, and nobody waits for it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.history import Behaviour
from tests.support.schemas import problems, schema_of
from tests.support.world import World, mirrored

GOOD, BETTER, BAD = "pvc://models/a", "pvc://models/b", "pvc://models/c"
ANALYSIS = {"minRequests": 60, "timeout": "20s"}
GATE = {"minAgreement": 0.9, "minRequests": 100, "timeout": "60s"}


def policy(gate: dict[str, Any] | None = None, percent: int = 50, **more: Any) -> dict[str, Any]:
    rollout = {"steps": [{"weight": 50}], "analysis": ANALYSIS, "mirror": percent, "mirrorGate": gate or {}, **more}
    return {"rollout": rollout, "router": {"replicas": 1}}


def begun(behaviour: Behaviour, spec: dict[str, Any], rate: float = 40) -> World:
    """A world whose canary is just being copied to."""
    world = World(rate=rate, behaviours={BETTER: behaviour})
    world.deploy(GOOD, **spec)
    world.run(30)
    world.deploy(BETTER, **spec)
    assert world.run(60, lambda: world.condition("Progressing").get("reason") == "CanaryMirroring")
    return world


def canary(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.status().get("canary", {})
    return found


def told(world: World, reason: str) -> list[str]:
    return [event["message"] for event in world.kube.of_kind("Event").values() if event["reason"] == reason]


def test_a_canary_that_answers_alike_takes_its_first_step_and_is_promoted() -> None:
    world = begun(Behaviour(differs=0.02), policy(GATE))
    routes = next(iter(world.routers.values()))[1]
    world.run(1)
    assert mirrored(next(iter(world.routers.values()))[1]) == (canary(world)["revision"], 50), routes
    assert world.weights() == {world.status()["stable"]["revision"]: 100}
    assert world.run(60, lambda: canary(world).get("step") == 0)
    mirror = canary(world)["mirror"]
    assert mirror["requests"] >= 100
    assert mirror["agreementLow"] < 0.98 < mirror["agreementHigh"]
    assert mirror["until"]
    assert problems(schema_of("TransformerDeployment", "status"), world.status()) == []
    assert any("answers agree in 9" in message for message in told(world, "Mirrored"))
    assert world.run(60, lambda: world.status()["stable"]["uri"] == BETTER)
    world.run(3)
    assert mirrored(next(iter(world.routers.values()))[1]) is None
    assert not world.lost


def test_a_canary_that_answers_otherwise_never_answers_a_user() -> None:
    world = begun(Behaviour(differs=0.4), policy(GATE))
    assert world.run(60, lambda: bool(world.status().get("rejected")))
    rejection = world.status()["rejected"][0]
    assert rejection["reason"] == "AnswersDiffer"
    assert "minAgreement is 0.9" in rejection["message"]
    assert sum(second.requests[rejection["revision"]] for second in world.seconds) == 0
    world.run(3)
    assert mirrored(next(iter(world.routers.values()))[1]) is None


@pytest.mark.parametrize("behaviour", [Behaviour(slow=0.5), Behaviour(failing=0.3)])
def test_a_slow_or_failing_canary_is_rolled_back_before_any_user_meets_it(behaviour: Behaviour) -> None:
    world = begun(behaviour, policy())
    assert world.run(60, lambda: bool(world.status().get("rejected")))
    rejection = world.status()["rejected"][0]
    assert rejection["reason"] == "ObjectiveBreached"
    assert sum(second.requests[rejection["revision"]] for second in world.seconds) == 0


def test_without_a_bound_the_agreement_is_told_and_decides_nothing() -> None:
    world = begun(Behaviour(differs=0.4), policy())
    assert world.run(60, lambda: canary(world).get("step") == 0)
    assert canary(world)["mirror"]["agreement"] == pytest.approx(0.6, abs=0.05)


def test_what_is_not_decided_in_time_waits_for_a_person_who_may_skip_it() -> None:
    world = begun(Behaviour(), policy({**GATE, "timeout": "20s"}), rate=2)
    assert world.run(40, lambda: bool(canary(world).get("paused"))), world.status()
    assert "with copied requests" in told(world, "CanaryPaused")[0]
    revision = canary(world)["revision"]
    ref = next(ref for ref in world.kube.objects if ref.kind == "TransformerDeployment")
    world.kube.annotate(ref, {"tapchanger.dev/skip": f"{revision}/0 the answers were compared by hand"})
    world.run(2)
    assert canary(world)["step"] == 0
    assert world.status()["controls"][0]["done"]


def test_a_hold_stops_its_clock_and_a_resume_gives_it_its_time_again() -> None:
    world = begun(Behaviour(), policy({**GATE, "timeout": "20s"}), rate=2)
    ref = next(ref for ref in world.kube.objects if ref.kind == "TransformerDeployment")
    world.kube.annotate(ref, {"tapchanger.dev/pause": "lunch"})
    world.run(60)
    assert not canary(world)["paused"]
    del world.kube.objects[ref]["metadata"]["annotations"]["tapchanger.dev/pause"]
    assert world.run(30, lambda: bool(canary(world).get("paused")))
    world.kube.annotate(ref, {"tapchanger.dev/resume": f"{canary(world)['revision']}/0"})
    world.run(10)
    assert not canary(world)["paused"]
    assert world.run(15, lambda: bool(canary(world).get("paused")))


def test_the_owner_may_change_the_share_or_end_the_mirroring() -> None:
    world = begun(Behaviour(), policy({**GATE, "minRequests": 10_000, "timeout": "10m"}))
    world.deploy(BETTER, **policy({**GATE, "minRequests": 10_000, "timeout": "10m"}, percent=80))
    world.run(3)
    assert canary(world)["mirror"]["percent"] == 80
    copied = mirrored(next(iter(world.routers.values()))[1])
    assert copied
    assert copied[1] == 80
    world.deploy(BETTER, **policy(percent=0))
    world.run(2)
    assert canary(world)["step"] == 0


def test_an_observer_that_is_silent_decides_nothing() -> None:
    world = begun(Behaviour(differs=1.0), policy(GATE))
    world.observer_silent = True
    world.run(50)
    assert canary(world)["step"] == -1
    assert not world.status().get("rejected")
    world.observer_silent = False
    assert world.run(60, lambda: bool(world.status().get("rejected")))


def test_an_operator_that_is_killed_goes_on_with_the_same_figures() -> None:
    world = begun(Behaviour(differs=0.02), policy({**GATE, "minRequests": 400}))
    for _ in range(6):
        world.run(4)
        world.tools = world.fresh_operator()
    assert world.run(60, lambda: canary(world).get("step") == 0)
    assert not world.errors
