"""Drift in a cluster in memory: what a deployment says of it, and what each action does."""

from __future__ import annotations

import random
from typing import Any

import pytest
from prometheus_client import REGISTRY

from tapchanger_operator.names import Ref
from tests.support.schemas import problems, schema_of
from tests.support.world import NAMESPACE, World
from tests.unit.decide.test_drift_watch import reference, step
from tests.unit.operator.test_whole_rollout import FAST, A, B, ready, revision, spec, told


def watched(slo: str = "1h", **drift: Any) -> World:
    """A world in which model A serves texts like the reference for a minute. `slo` is the objectives' window."""
    world = World()
    world.reference = reference()
    world.deploy(A, **{**FAST, "slo": {**FAST.get("slo", {}), "window": slo}}, drift={"falseAlarmEvery": "1d", **drift})
    assert world.run(40, lambda: ready(world)), world.status()
    texts(world, 100)
    return world


def texts(world: World, seconds: int, seed: int = 5, **traffic: Any) -> None:
    """Requests for so long; the steps of the observer come as time goes on."""
    rng = random.Random(seed)
    for _ in range(seconds // 10):
        number = round((world.now - 1_700_000_000) // 10) + 1
        world.texts.append(step(rng, number, **traffic))
        world.run(10)


def drift_free(world: World) -> tuple[str, str]:
    found = world.condition("DriftFree")
    return found["status"], found["reason"]


def test_it_is_told_once_that_texts_changed_and_once_that_it_is_over() -> None:
    world = watched()
    assert drift_free(world) == ("True", "NoDrift")
    assert world.status()["drift"]["verdict"] == "none"
    texts(world, 150, shift=5)
    status = world.status()
    assert drift_free(world) == ("False", "Drifted")
    assert (status["drift"]["verdict"], status["drift"]["signal"]) == ("tokens", "tokens")
    assert not problems(status, schema_of("TransformerDeployment", "status"))
    assert len(told(world, "Drifted")) == 1
    assert "tokens moved since" in told(world, "Drifted")[0]
    labels = {"namespace": NAMESPACE, "name": "moderation"}
    assert REGISTRY.get_sample_value("tapchanger_drifted", {**labels, "feature": "tokens"}) == 1
    assert REGISTRY.get_sample_value("tapchanger_drifted", {**labels, "feature": "labels"}) == 0
    assert (REGISTRY.get_sample_value("tapchanger_drift_evidence", labels) or 0) >= 1
    assert ready(world)
    texts(world, 400)
    assert drift_free(world) == ("True", "NoDrift")
    assert len(told(world, "DriftOver")) == 1
    del world.kube.objects[Ref("TransformerDeployment", NAMESPACE, "moderation")]
    world.one_pass(Ref("TransformerDeployment", NAMESPACE, "moderation"))
    assert REGISTRY.get_sample_value("tapchanger_drift_evidence", labels) is None


def test_an_operator_that_is_killed_goes_on_where_it_was() -> None:
    world = watched()
    before = world.status()["drift"]["texts"]
    texts(world, 30, shift=5)
    world.tools = world.fresh_operator()
    texts(world, 120, shift=5)
    assert world.status()["drift"]["texts"] > before
    assert drift_free(world) == ("False", "Drifted")


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"enabled": False}, ("Unknown", "NotWatched")),
        ({"reference": {"firstRequests": 1000}}, ("Unknown", "LearningReference")),
    ],
)
def test_what_is_not_compared_is_unknown(change: dict[str, Any], wanted: tuple[str, str]) -> None:
    assert drift_free(watched(**change)) == wanted


def test_without_an_announced_reference_or_an_observer_the_condition_says_so() -> None:
    world = World()
    world.deploy(A, **FAST, drift={"reference": "evaluation"})
    assert world.run(40, lambda: ready(world))
    texts(world, 60)
    assert drift_free(world) == ("Unknown", "NoReference")
    silent = World()
    silent.observer_silent = True
    silent.deploy(A, **FAST)
    silent.run(40)
    assert drift_free(silent) == ("Unknown", "ObserverSilent")


def test_hold_lets_no_rollout_begin_while_something_moved() -> None:
    world = watched(action="Hold")
    texts(world, 150, shift=5)
    old = revision(world)
    spec(world)["model"]["uri"] = B
    texts(world, 60, shift=5)
    status = world.status()
    assert "canary" not in status
    assert revision(world) == old
    assert world.condition("Stalled")["reason"] == "HeldByDrift"
    assert "drift.action: Alert" in world.condition("Stalled")["message"]
    assert "traffic has drifted (tokens since" in status["message"]
    spec(world)["drift"]["action"] = "Alert"
    texts(world, 60, shift=5)
    assert revision(world) != old or world.status().get("canary")


def test_a_canary_waits_before_its_next_step_while_something_moved() -> None:
    world = watched(action="Hold")
    texts(world, 150, shift=5)
    assert drift_free(world)[0] == "False"
    spec(world)["drift"]["action"] = "Alert"
    spec(world)["model"]["uri"] = B
    assert world.run(60, lambda: (world.status().get("canary") or {}).get("weight", 0) > 0)
    spec(world)["drift"]["action"] = "Hold"
    world.run(2)
    weight = world.status()["canary"]["weight"]
    world.run(60)
    assert world.status()["canary"]["weight"] == weight
    assert world.condition("Progressing")["reason"] == "HeldByDrift"


def promoted(**drift: Any) -> tuple[World, str, str]:
    """Model B took over from A a moment ago and A is warm; both revisions."""
    world = World()
    world.reference = reference()
    rollout = {**FAST["rollout"], "watch": "30m"}
    world.deploy(A, rollout=rollout, drift={"falseAlarmEvery": "1d", **drift})
    assert world.run(40, lambda: ready(world))
    old = revision(world)
    spec(world)["model"]["uri"] = B
    assert world.run(200, lambda: revision(world) != old), world.status()
    texts(world, 100)
    return world, old, revision(world)


def test_rollback_returns_to_the_previous_revision_where_only_answers_moved() -> None:
    world, old, new = promoted(action="Rollback")
    texts(world, 150, angry=0.9)
    assert revision(world) == old
    assert world.status()["rejected"][-1]["revision"] == new
    assert world.status()["rejected"][-1]["reason"] == "AnswersDrifted"
    assert world.weights()[old] == 100
    assert len(told(world, "RolledBack")) == 1


def test_rollback_does_nothing_where_the_texts_moved() -> None:
    world, _, new = promoted(action="Rollback")
    texts(world, 150, angry=0.9, shift=5)
    assert drift_free(world)[0] == "False"
    assert revision(world) == new
    assert "rejected" not in world.status()


def test_a_new_revision_is_compared_anew() -> None:
    world, _, new = promoted()
    assert world.status()["drift"]["revision"] == new
    assert drift_free(world) == ("True", "NoDrift")


def written(world: World) -> int:
    """How often the status was written."""
    ref = Ref("TransformerDeployment", NAMESPACE, "moderation")
    return sum(call.verb == "status" and call.ref == ref for call in world.kube.calls)


def test_steady_traffic_is_written_a_dozen_times_an_hour() -> None:
    world = watched(slo="5m")
    texts(world, 310)
    before, known = written(world), world.status()["drift"]["texts"]
    texts(world, 900, seed=6)
    assert world.status()["drift"]["texts"] > known + 40 * 60
    assert 0 < (written(world) - before) * 4 <= 12


def test_an_operator_that_starts_anew_has_the_same_evidence_and_counts_each_text_once() -> None:
    worlds = [watched(), watched()]
    seen = []
    for restarts, world in enumerate(worlds):
        for part in range(3):
            texts(world, 130, seed=part)
            if restarts:
                world.tools = world.fresh_operator()
        world.run(300)  # nobody asks any more: what was not written yet is written all the same
        world.tools = world.fresh_operator()
        world.run(60)
        assert drift_free(world) == ("True", "NoDrift")
        seen.append(world.status()["drift"])
    assert seen[0]["texts"] == 40 * len(worlds[0].texts)
    differing = {name for name in seen[0] if seen[0][name] != seen[1][name]}
    assert differing <= {"at", "state"}
    states = [{name: value for name, value in one["state"].items() if name != "until"} for one in seen]
    assert states[0] == states[1]


def test_what_another_operator_wrote_wins_over_what_this_one_remembers() -> None:
    world = watched()
    first = world.tools
    world.tools = world.fresh_operator()
    texts(world, 350, seed=6)
    world.tools = first
    texts(world, 50, seed=7)
    world.run(300)
    assert world.status()["drift"]["texts"] == 40 * len(world.texts)


def hours_later(world: World, number: int, seed: int = 5, **traffic: Any) -> None:
    """So many hours pass, with texts every five minutes."""
    rng = random.Random(seed)
    for _ in range(number * 12):
        world.now += 300
        world.texts = world.texts[-100:]
        world.texts.append(step(rng, round((world.now - 1_700_000_000) // 10) - 3, **traffic))
        world.passes()


def test_what_hours_looked_like_outlives_the_operator_and_goes_when_nobody_compares_them() -> None:
    world = watched(compare={"like": "hours"})
    ref = Ref("ConfigMap", NAMESPACE, "moderation-drift-hours")
    hours_later(world, 3)
    assert "newest" in world.kube.objects[ref]["data"]["hours.json"]
    assert world.status()["drift"]["reference"] == "2000 texts of the reference (0 of 24 hours are known)"
    world.tools = world.fresh_operator()
    hours_later(world, 3 * 24, seed=6)
    status = world.status()
    assert status["drift"]["reference"].endswith("texts of the same hour of 3 days")
    assert drift_free(world) == ("True", "NoDrift")
    assert not problems(status, schema_of("TransformerDeployment", "status"))
    assert len(world.kube.objects[ref]["data"]["hours.json"]) < 24 * 1500
    spec(world)["drift"]["compare"] = {"like": "reference"}
    hours_later(world, 1)
    assert ref not in world.kube.objects
    assert world.status()["drift"]["reference"] == "2000 texts"
