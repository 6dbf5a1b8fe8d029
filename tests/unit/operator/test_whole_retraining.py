"""Retraining in a cluster in memory: what starts a run, how it goes on, what becomes of its content, and what never happens."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest
from prometheus_client import REGISTRY

from tapchanger_operator import names
from tapchanger_operator.api.base import unix
from tapchanger_operator.errors import Transient, UserError
from tapchanger_operator.names import Ref
from tapchanger_serving.contract.messages import StepFailure
from tapchanger_serving.contract.retraining import RunInputs
from tests.support.fake_kube import Call, Killed
from tests.support.history import Behaviour
from tests.support.schemas import problems, schema_of
from tests.support.world import NAMESPACE, World, digest_of
from tests.unit.decide.test_drift_watch import reference
from tests.unit.operator.test_whole_drift import texts
from tests.unit.operator.test_whole_rollout import FAST, A, ready, revision, spec, told

DEPLOYMENT = Ref("TransformerDeployment", NAMESPACE, "moderation")
TRAINER: dict[str, Any] = {
    "template": {"spec": {"containers": [{"name": "train", "image": "trainer:1"}], "volumes": []}},
}
RETRAINING: dict[str, Any] = {"job": TRAINER, "minInterval": "1h", "backoff": {"initial": "1m", "max": "5m"}}


def serving(drift: dict[str, Any] | None = None, **retraining: Any) -> World:
    """A world in which model A serves and can be trained anew."""
    world = World()
    world.reference = reference()
    changed = {key: value for key, value in {**RETRAINING, **retraining}.items() if value is not None}
    world.deploy(A, **FAST, drift={"falseAlarmEvery": "1d", **(drift or {})}, retraining=changed)
    assert world.run(40, lambda: ready(world)), world.status()
    return world


def order(world: World, value: str, kind: str = "retrain") -> None:
    world.kube.annotate(DEPLOYMENT, {f"tapchanger.dev/{kind}": value})


def status(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.status()["retraining"]
    return found


def ended(world: World, seconds: float = 300, number: int = 1) -> dict[str, Any]:
    """The run that ends within that time."""
    assert world.run(seconds, lambda: len(status(world).get("runs", [])) >= number), world.status()
    assert not problems(world.status(), schema_of("TransformerDeployment", "status"))
    found: dict[str, Any] = status(world)["runs"][-1]
    return found


def jobs(world: World) -> list[str]:
    """Runs' Jobs that were ever made, in order."""
    made: list[str] = []
    for call in world.kube.calls:
        if (
            call.verb == "apply"
            and call.ref.kind == "Job"
            and "-retrain-" in call.ref.name
            and call.ref.name not in made
        ):
            made.append(call.ref.name)
    return made


def condition(world: World) -> tuple[str, str]:
    found = world.condition("Retraining")
    return found["status"], found["reason"]


def test_an_order_trains_builds_tests_and_promotes_and_status_has_the_whole_chain() -> None:
    world = serving()
    old = revision(world)
    assert condition(world) == ("False", "NoRun")
    result = {
        "figures": {"accuracy": 0.95},
        "data": [{"uri": "pvc://data/new.csv", "digest": digest_of("new"), "rows": 9}],
    }
    world.trained = {"leaves": {A: digest_of("better")}, "answer": json.dumps(result)}
    order(world, "new labels")
    world.run(3)
    assert condition(world) == ("True", "RetrainingStarted")
    run = ended(world)
    assert (run["outcome"], run["trigger"], run["why"]) == ("Promoted", "Manual", "new labels")
    assert run["inputs"]["model"] == digest_of(A)
    assert run["inputs"]["revision"] == old
    assert run["digest"] == digest_of("better")
    assert run["revision"] == revision(world) != old
    assert run["build"] == world.status()["stable"]["build"]
    assert run["figures"] == {"accuracy": 0.95}
    assert run["data"] == result["data"]
    assert condition(world) == ("False", "RetrainingPromoted")
    (answer,) = status(world)["answers"]
    assert answer["done"]
    assert run["name"] in answer["message"]
    for reason in ("RetrainingStarted", "RetrainingContent", "RetrainingPromoted"):
        assert len(told(world, reason)) == 1, reason
    assert run["build"] in told(world, "RetrainingPromoted")[0]
    labels = {"namespace": NAMESPACE, "name": "moderation"}
    assert REGISTRY.get_sample_value("tapchanger_retraining", labels) == 0
    assert not [name for name in world.kube.of_kind("ConfigMap") if "-retrain-" in name]
    assert world.lost.total() == 0


def test_drift_starts_one_run_which_is_told_what_moved_and_no_text() -> None:
    world = serving({"action": "Retrain"})
    texts(world, 100)
    world.trained = {"seconds": 600}
    texts(world, 150, shift=5)
    (name,) = jobs(world)
    config = world.kube.of_kind("ConfigMap")[name]["data"]
    inputs = RunInputs.model_validate_json(config["run.json"])
    assert inputs.trigger == "Drift"
    assert inputs.drift is not None
    assert (inputs.drift.feature, inputs.drift.signal) == ("tokens", "tokens")
    assert inputs.drift.buckets
    assert json.loads(config["drift.json"]) == json.loads(config["run.json"])["drift"]
    run = status(world)["run"]
    assert run["inputs"]["driftDigest"] == names.content_digest(config["drift.json"])
    container = world.kube.of_kind("Job")[name]["spec"]["template"]["spec"]["containers"][0]
    given = {entry["name"]: entry["value"] for entry in container["env"]}
    assert given["TAPCHANGER_RUN"] == run["name"]
    assert given["TAPCHANGER_OUTPUT_URI"] == A
    assert given["TAPCHANGER_DRIFT_FILE"] == "/tapchanger/drift.json"
    assert "TAPCHANGER_CAPTURE_URI" not in given


def test_drift_that_goes_on_after_a_retrain_starts_no_further_run() -> None:
    world = serving({"action": "Retrain"}, minInterval="5m")
    texts(world, 100)
    world.trained = {"leaves": {A: digest_of("better")}}
    texts(world, 300, shift=5)
    assert ended(world)["outcome"] == "Promoted"
    texts(world, 500, shift=5)
    assert world.condition("DriftFree")["status"] == "False"
    assert len(jobs(world)) == 1
    assert condition(world) == ("False", "DriftPersists")
    texts(world, 900)
    assert world.condition("DriftFree")["status"] == "True"
    assert "answered" not in status(world)
    world.trained = {"leaves": {A: digest_of("best")}}
    texts(world, 300, shift=5)
    assert len(jobs(world)) == 2


def test_a_run_that_leaves_the_same_content_is_told_plainly() -> None:
    world = serving()
    old = revision(world)
    order(world, "try")
    run = ended(world)
    assert run["outcome"] == "SameContent"
    assert "left the same content" in condition_message(world)
    assert revision(world) == old
    assert condition(world) == ("False", "RetrainingSameContent")


def condition_message(world: World) -> str:
    message: str = world.condition("Retraining")["message"]
    return message


def test_runs_that_fail_change_nothing_and_wait_longer_each_time() -> None:
    world = serving({"action": "Retrain"})
    texts(world, 100)
    before = world.status()["stable"]
    world.trained = {"fails": "CUDA out of memory"}
    texts(world, 800, shift=5)
    runs = status(world)["runs"]
    assert {run["outcome"] for run in runs} == {"Failed"}
    assert "CUDA out of memory" in runs[0]["message"]
    starts = [unix(run["started"]) for run in runs]
    gaps = [round(b - a) for a, b in itertools.pairwise(starts)]
    assert gaps[0] < gaps[1] < gaps[2] <= 320, gaps
    assert status(world)["failures"] == len(runs)
    assert condition(world) == ("False", "RetrainingFailed")
    assert world.status()["stable"]["revision"] == before["revision"]
    assert ready(world)
    assert world.lost.total() == 0


def test_a_bad_build_of_a_runs_content_ends_the_run_and_what_served_goes_on() -> None:
    world = serving()
    old = revision(world)
    world.trained = {"leaves": {A: digest_of("worse")}}
    world.build_failures[A] = StepFailure(reason="GateFailed", message="accuracy 0.71 < 0.9")
    order(world, "try")
    run = ended(world)
    assert run["outcome"] == "BuildFailed"
    assert "accuracy 0.71" in run["message"]
    assert run["digest"] == digest_of("worse")
    assert revision(world) == old
    assert condition(world) == ("False", "RetrainingBuildFailed")


def test_a_canary_of_a_runs_content_that_fails_is_in_the_chain() -> None:
    world = serving()
    old = revision(world)
    world.trained = {"leaves": {A: digest_of("slower")}}
    order(world, "try")
    world.run(8)
    assert world.run(120, lambda: (world.status().get("canary") or {}).get("revision"))
    content = names.server("moderation", world.status()["canary"]["revision"])
    stored = world.kube.objects[Ref("ControllerRevision", NAMESPACE, content)]
    world.kube.objects[Ref("ControllerRevision", NAMESPACE, content)] = {
        **stored,
        "data": {**stored["data"], "uri": "pvc://models/failing"},
    }
    world.behaviours["pvc://models/failing"] = Behaviour(failing=0.5)
    run = ended(world)
    assert run["outcome"] == "RolledBack", run
    assert "taken back" in run["message"]
    assert revision(world) == old
    assert condition(world) == ("False", "RetrainingRolledBack")


def test_there_is_one_run_at_a_time_and_orders_are_carried_out_once() -> None:
    world = serving()
    world.trained = {"seconds": 60}
    order(world, "one")
    world.run(10)
    order(world, "two")
    world.run(10)
    (answer,) = status(world)["answers"]
    assert not answer["done"]
    assert "one at a time" in answer["message"]
    assert len(told(world, "OrderRefused")) == 1
    ended(world)
    world.run(60)
    assert len(jobs(world)) == 1
    order(world, "three")
    ended(world, number=2)
    assert len(jobs(world)) == 2


def test_a_person_waits_for_no_interval_and_drift_does() -> None:
    world = serving({"action": "Retrain"}, minInterval="10m")
    texts(world, 100)
    order(world, "by hand")
    ended(world)
    texts(world, 200, shift=5)
    assert len(jobs(world)) == 1
    assert condition(world) == ("False", "RetrainingPending")
    assert "minInterval" in condition_message(world)
    world.run(420)
    assert len(jobs(world)) == 2


def test_a_held_deployment_starts_nothing() -> None:
    world = serving({"action": "Retrain"})
    texts(world, 100)
    world.kube.annotate(DEPLOYMENT, {"tapchanger.dev/pause": "freeze"})
    texts(world, 150, shift=5)
    order(world, "now")
    world.run(5)
    assert jobs(world) == []
    assert condition(world) == ("False", "RetrainingPending")
    assert "tapchanger.dev/pause" in status(world)["answers"][0]["message"]


def test_drift_that_holds_rollouts_holds_no_run() -> None:
    world = serving({"action": "Hold"})
    texts(world, 100)
    texts(world, 150, shift=5)
    assert world.condition("DriftFree")["status"] == "False"
    order(world, "new labels")
    assert ended(world)["outcome"] == "SameContent"


def test_a_schedule_starts_at_its_time_and_an_outage_makes_no_storm() -> None:
    world = serving(schedule="*/10 * * * *", minInterval="1m")
    first = status(world)["next"]
    assert world.run(700, lambda: bool(jobs(world)))
    run = ended(world)
    assert (run["trigger"], run["why"]) == ("Schedule", f"due at {first}")
    world.now += 6 * 3600  # nobody is there for six hours: 36 times are missed
    world.run(120)
    assert len(jobs(world)) == 2
    assert len(status(world)["runs"]) == 2


def test_a_time_that_could_not_be_kept_is_left_out_and_told() -> None:
    world = serving(schedule="*/10 * * * *", startingDeadline="2m", minInterval="1m")
    world.kube.annotate(DEPLOYMENT, {"tapchanger.dev/pause": "freeze"})
    world.run(600 + 130)
    assert jobs(world) == []
    (missed,) = told(world, "RetrainingMissed")
    assert "left out" in missed


def test_an_operator_that_is_killed_at_any_call_makes_one_job() -> None:
    world = serving()
    world.trained = {"leaves": {A: digest_of("better")}}
    rng = random.Random(7)

    def fault(number: int, call: Call) -> None:
        if call.verb in ("apply", "status") and rng.random() < 0.3:
            raise Killed

    world.kube.fault = fault
    order(world, "go")
    run = ended(world, 900)
    assert run["outcome"] == "Promoted"
    assert len(jobs(world)) == 1


def test_a_job_that_the_cluster_refuses_ends_the_run_and_stalls_nothing() -> None:
    world = serving()

    def fault(number: int, call: Call) -> None:
        if call.verb == "apply" and call.ref.kind == "Job" and "-retrain-" in call.ref.name:
            raise UserError("RefusedByCluster", 'field not declared in schema: "imag"')

    world.kube.fault = fault
    order(world, "go")
    run = ended(world)
    assert run["outcome"] == "Failed"
    assert "field not declared" in run["message"]
    assert ready(world)
    assert world.condition("Stalled")["status"] == "False"


def test_a_run_that_does_not_end_is_given_up_and_its_job_goes() -> None:
    world = serving(timeout="5m")
    world.trained = {"seconds": 9999, "leaves": {A: digest_of("late")}}
    order(world, "go")
    assert "retraining.timeout" in ended(world, 1000)["message"]
    world.run(10)
    assert not [name for name in world.kube.of_kind("Job") if "-retrain-" in name]


def test_a_job_that_ended_stays_for_its_log() -> None:
    world = serving()
    order(world, "go")
    ended(world)
    world.run(30)
    assert [name for name in world.kube.of_kind("Job") if "-retrain-" in name] == jobs(world)


def test_an_api_server_in_trouble_delays_a_run_and_no_pass() -> None:
    world = serving()
    faults = {"left": 5}

    def fault(number: int, call: Call) -> None:
        if call.verb == "apply" and "-retrain-" in call.ref.name and faults["left"]:
            faults["left"] -= 1
            raise Transient("ApiServerError", "failed calling webhook")

    world.kube.fault = fault
    order(world, "go")
    assert ended(world)["outcome"] == "SameContent"
    assert not world.errors


def test_a_job_that_was_deleted_is_a_failed_run() -> None:
    world = serving()
    world.trained = {"seconds": 600}
    order(world, "go")
    world.run(10)
    (name,) = jobs(world)
    world.kube.remove(Ref("Job", NAMESPACE, name))
    assert "is gone" in ended(world)["message"]


def test_a_changed_address_gives_the_run_up_and_its_job_goes() -> None:
    world = serving()
    world.trained = {"seconds": 600}
    order(world, "go")
    world.run(10)
    spec(world)["model"]["uri"] = "pvc://models/elsewhere"
    assert ended(world)["outcome"] == "Superseded"
    world.run(10)
    assert not [name for name in world.kube.of_kind("Job") if "-retrain-" in name]


@pytest.mark.parametrize(
    ("answer", "note"),
    [
        ("not JSON", "can't be read"),
        ('{"figures": {"a b": 1}}', "can't be read"),
        ('{"message": "fine"}', "fine"),
        ("", ""),
    ],
)
def test_what_a_run_says_of_itself_is_bounded_and_need_not_be_there(answer: str, note: str) -> None:
    world = serving()
    world.trained = {"leaves": {A: digest_of("better")}, "answer": answer}
    order(world, "go")
    run = ended(world)
    assert run["outcome"] == "Promoted"
    assert note in run["note"]
    assert run.get("figures") in (None, {})


WEBHOOK: dict[str, Any] = {"job": None, "webhook": {"url": "https://ci.example.com/retrain", "secretName": "hook"}}


def test_a_webhook_is_told_and_new_content_at_the_address_ends_its_run() -> None:
    world = serving(**WEBHOOK)
    order(world, "go")
    world.run(20)
    (name,) = jobs(world)
    container = world.kube.of_kind("Job")[name]["spec"]["template"]["spec"]["containers"][0]
    assert container["command"] == ["python3", "-m", "tapchanger_serving.webhook"]
    assert condition(world) == ("True", "RetrainingWaiting")
    world.digests[A] = digest_of("better")
    run = ended(world, 900)
    assert run["outcome"] == "Promoted"
    assert run["digest"] == digest_of("better")


def test_a_word_ends_the_run_of_a_webhook() -> None:
    world = serving(**WEBHOOK)
    order(world, "go")
    world.run(20)
    name = status(world)["run"]["name"]
    order(world, "r000000000 succeeded", "retrained")
    world.run(3)
    refused = next(one for one in status(world)["answers"] if one["order"] == "retrained")
    assert not refused["done"]
    world.digests[A] = digest_of("better")
    order(world, f"{name} succeeded 12 epochs", "retrained")
    assert ended(world, 120)["outcome"] == "Promoted"
    order(world, "again")
    world.run(20)
    order(world, f"{status(world)['run']['name']} failed no GPU was free", "retrained")
    run = ended(world, 60, number=2)
    assert (run["outcome"], run["message"]) == ("Failed", "no GPU was free")


def test_a_webhook_from_which_nothing_comes_fails_in_time() -> None:
    world = serving(**WEBHOOK, timeout="10m")
    order(world, "go")
    run = ended(world, 700)
    assert run["outcome"] == "Failed"
    assert "retraining.timeout" in run["message"]


def test_an_order_without_retraining_is_refused_with_what_to_write() -> None:
    world = World()
    world.deploy(A, **FAST)
    assert world.run(40, lambda: ready(world))
    order(world, "go")
    world.run(5)
    assert "spec.retraining" in status(world)["answers"][0]["message"]
    assert world.condition("Retraining") == {}
