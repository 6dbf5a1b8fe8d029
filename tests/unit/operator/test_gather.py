"""Reading a spec, a status and the world around them."""

from __future__ import annotations

from typing import Any

import pytest

from tapchanger_operator import names
from tapchanger_operator.api import reasons
from tapchanger_operator.errors import Transient, UserError
from tapchanger_operator.names import Ref
from tapchanger_operator.observe.gather import gather, parse_spec, parse_status
from tests.support.samples import MODEL
from tests.support.world import NAMESPACE, World

REF = Ref("TransformerDeployment", NAMESPACE, "moderation")


def refusal(**change: Any) -> str:
    with pytest.raises(UserError) as problem:
        parse_spec({"spec": {"model": MODEL, **change}})
    assert problem.value.reason == reasons.INVALID_SPEC
    return problem.value.message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"engine": {"runtime": "abacus"}}, ["spec.engine.runtime: ", "'openvino'", "not 'abacus'"]),
        ({"serving": {"replicas": {"min": 0}}}, ["spec.serving.replicas.min: ", "greater than or equal to 1", "'0'"]),
        ({"serving": {"replica": 1}}, ["spec.serving.replica: there is no such field"]),
        ({"rollout": {"steps": [{"weight": 5}, {"weigth": 9}]}}, ["spec.rollout.steps.1.weight: Field required"]),
        ({"rollout": {"watch": "soon"}}, ["spec.rollout.watch: ", "'soon'"]),
        ({"engine": {"shapes": {"maxBatchSize": "big"}}}, ["spec.engine.shapes.maxBatchSize: ", "'big'"]),
        ({"model": {"uri": "models/a", "task": MODEL["task"]}}, ["spec.model.uri: 'models/a'", "pvc://CLAIM/path"]),
        (
            {"engine": {"gates": {"evaluation": {"dataset": {"uri": "test.csv"}}}}},
            ["spec.engine.gates.evaluation.dataset.uri: 'test.csv'", "pvc://CLAIM/path"],
        ),
        (
            {"serving": {"template": {"affinity": {"nodeAffinity": "fast"}}}},
            ["spec.serving.template.affinity: ", "kubectl explain pod.spec.affinity"],
        ),
        (
            {
                "serving": {
                    "template": {
                        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"terms": []}}}
                    }
                }
            },
            ["spec.serving.template.affinity: "],
        ),
    ],
)
def test_a_bad_spec_names_the_field_what_was_found_and_what_to_write(change: dict[str, Any], words: list[str]) -> None:
    message = refusal(**change)
    for word in words:
        assert word in message


def test_every_bad_field_is_named_at_once() -> None:
    message = refusal(engine={"runtime": "abacus"}, serving={"replicas": {"min": 0}})
    assert "spec.engine.runtime" in message
    assert "spec.serving.replicas.min" in message


def test_a_spec_without_a_model_says_so() -> None:
    with pytest.raises(UserError, match=r"spec\.model: Field required"):
        parse_spec({"spec": {}})


def test_values_of_any_length_make_a_message_that_a_person_can_read() -> None:
    assert len(refusal(engine={"runtime": "x" * 10_000})) < 500


def test_fields_of_a_later_versions_status_are_passed_over() -> None:
    status = parse_status({"status": {"message": "hello", "tilt": 5, "analysis": {"verdict": "Perhaps"}}})
    assert status.message == "hello"
    assert status.analysis is None


@pytest.mark.parametrize("part", ["stable", "canary", "previous"])
def test_a_status_that_does_not_say_who_serves_is_not_guessed(part: str) -> None:
    with pytest.raises(Transient, match=rf"status\.{part} can't be read"):
        parse_status({"status": {part: {"revision": 7}}})


def serving() -> World:
    world = World()
    world.deploy()
    assert world.run(40, lambda: world.condition("Ready").get("status") == "True")
    return world


def test_nothing_is_touched_while_it_is_not_readable_who_serves() -> None:
    world = serving()
    body = world.kube.objects[REF]
    broken = {**body["status"]["stable"], "weight": "all"}
    world.kube.put({**body, "status": {**body["status"], "stable": broken}})
    done = len(world.kube.calls)
    world.run(5)
    assert {call.verb for call in world.kube.calls[done:]} <= {"get", "list"}
    assert all(isinstance(problem, Transient) for problem in world.errors)
    assert len(world.errors) == 5


def test_a_build_that_cannot_be_read_says_so_itself_and_holds_nobody_up() -> None:
    world = World()
    world.kube.put(
        {"kind": "EngineBuild", "metadata": {"name": "eb-0", "namespace": NAMESPACE}, "spec": {"colour": "red"}}
    )
    world.deploy()
    assert world.run(40, lambda: world.condition("Ready").get("status") == "True"), world.status()
    status = world.kube.of_kind("EngineBuild")["eb-0"]["status"]
    assert status["phase"] == "Failed"
    assert status["conditions"][0]["reason"] == reasons.INVALID_SPEC


def test_the_snapshot_holds_what_was_seen() -> None:
    world = serving()
    snapshot = gather(world.kube, world, {**world.kube.objects[REF]}, world.now)  # type: ignore[arg-type]
    revision = world.status()["stable"]["revision"]
    assert snapshot.servers[revision].available
    assert snapshot.router.ready == 2
    assert set(snapshot.router.told) == {"moderation-router-0", "moderation-router-1"}
    assert set(snapshot.contents) == {revision}
    assert snapshot.missing_claims == []
    assert snapshot.canary_windows is None
    assert snapshot.slo_windows is not None


def test_routers_that_end_are_not_told_any_more() -> None:
    world = serving()
    pod = world.kube.of_kind("Pod")["moderation-router-0"]
    world.kube.put({**pod, "metadata": {**pod["metadata"], "deletionTimestamp": "2026-11-24T06:00:00Z"}})
    snapshot = gather(world.kube, world, {**world.kube.objects[REF]}, world.now)  # type: ignore[arg-type]
    assert set(snapshot.router.told) == {"moderation-router-1"}
    assert snapshot.router.ready == 1


def test_servers_of_an_older_generation_do_not_count_as_available() -> None:
    world = serving()
    revision = world.status()["stable"]["revision"]
    ref = Ref("Deployment", NAMESPACE, names.server("moderation", revision))
    item = world.kube.objects[ref]
    world.kube.put({**item, "spec": {**item["spec"], "replicas": 2}})
    snapshot = gather(world.kube, world, {**world.kube.objects[REF]}, world.now)  # type: ignore[arg-type]
    assert not snapshot.servers[revision].available
    assert snapshot.servers[revision].replicas == 2
