"""What pods tell, from pods as the kubelet and the Job controller leave them."""

from __future__ import annotations

from typing import Any

import pytest

from tapchanger_operator.api import reasons
from tapchanger_operator.observe.pods import JOB_LABEL, job_state, of_job, trouble
from tapchanger_operator.snapshot import JobState
from tapchanger_serving.contract.names import EXIT_ENGINE_INCOMPATIBLE

FAILURE = (
    '{"reason":"PickleCheckpoint","message":"the weights are pickled","field":"spec.model.uri","remedy":"convert"}'
)


def pod(*containers: dict[str, Any], init: tuple[dict[str, Any], ...] = (), **status: Any) -> dict[str, Any]:
    meta = {"name": "eb-1-x", "labels": {JOB_LABEL: "eb-1"}, "creationTimestamp": "2026-11-24T06:00:00Z"}
    return {
        "metadata": meta,
        "status": {"containerStatuses": list(containers), "initContainerStatuses": list(init), **status},
    }


def waiting(name: str, reason: str, message: str = "", last: str | None = None) -> dict[str, Any]:
    before = {"lastState": {"terminated": {"exitCode": 1, "message": last}}} if last else {"lastState": {}}
    return {"name": name, "state": {"waiting": {"reason": reason, "message": message}}, **before}


def running(name: str) -> dict[str, Any]:
    return {"name": name, "state": {"running": {"startedAt": "2026-11-24T06:00:00Z"}}, "lastState": {}}


def ended(name: str, code: int = 0, message: str | None = None, reason: str | None = None) -> dict[str, Any]:
    said = {"message": message} if message is not None else {}
    because = {"reason": reason or ("Completed" if code == 0 else "Error")}
    return {"name": name, "state": {"terminated": {"exitCode": code, **because, **said}}, "lastState": {}}


def job(*conditions: str, **details: str) -> dict[str, Any]:
    found = [{"type": condition, "status": "True", **details} for condition in conditions]
    return {"metadata": {"name": "eb-1"}, "status": {"conditions": found}}


UNSCHEDULABLE = {
    "phase": "Pending",
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient cpu.",
        }
    ],
}


def test_a_pod_that_no_node_takes_has_the_schedulers_words() -> None:
    found = trouble([pod(**UNSCHEDULABLE)])
    assert found is not None
    assert (found.reason, found.message) == (reasons.NO_NODE_FITS, "0/1 nodes are available: 1 Insufficient cpu.")


@pytest.mark.parametrize(
    "reason", ["ImagePullBackOff", "ErrImagePull", "InvalidImageName", "CreateContainerConfigError"]
)
def test_a_container_that_cannot_start_has_the_kubelets_words(reason: str) -> None:
    found = trouble([pod(running("triton")), pod(waiting("triton", reason, 'Back-off pulling image "server:x"'))])
    assert found is not None
    assert found.reason == reason
    assert found.message == f'container triton: {reason}: Back-off pulling image "server:x"'


CRASH = {"exitCode": 1, "reason": "Error", "message": "Traceback\n  …\nValueError: digest differs\n"}


@pytest.mark.parametrize(
    "container",
    [
        {"state": {"terminated": CRASH}},
        {
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
            "lastState": {"terminated": CRASH},
        },
        {"state": {"running": {}}, "ready": False, "lastState": {"terminated": CRASH}},
    ],
    ids=["has just ended", "waits for its next start", "runs again and is not ready"],
)
def test_a_container_that_keeps_crashing_tells_its_last_words(container: dict[str, Any]) -> None:
    found = trouble([pod(waiting("triton", "PodInitializing"), init=({"name": "repository", **container},))])
    assert found is not None
    assert found.reason == "CrashLoopBackOff"
    assert found.message == "container repository ends with exit code 1: ValueError: digest differs"


def test_an_init_container_that_finds_other_hardware_names_the_node_and_what_helps() -> None:
    line = '{"level": "error", "msg": "the engine (openvino int8) needs amx_int8; the node is amd64 with avx2"}'
    ended = {"terminated": {"exitCode": EXIT_ENGINE_INCOMPATIBLE, "message": line}}
    init = {"name": "repository", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended}
    stuck = pod(waiting("triton", "PodInitializing"), init=(init,))
    found = trouble([stuck | {"spec": {"nodeName": "worker-3"}}])
    assert found is not None
    assert found.reason == reasons.ENGINE_INCOMPATIBLE
    assert found.message.startswith(
        "node worker-3: the engine (openvino int8) needs amx_int8; the node is amd64 with avx2"
    )
    assert "serving.template.nodeSelector" in found.message


@pytest.mark.parametrize(
    "container",
    [
        {"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
        {"state": {"running": {}}, "ready": True, "lastState": {"terminated": CRASH}},
    ],
    ids=["ended well", "is ready again"],
)
def test_a_crash_that_is_over_is_no_trouble(container: dict[str, Any]) -> None:
    assert trouble([pod({"name": "triton", **container})]) is None


@pytest.mark.parametrize(
    "fine",
    [
        pod(running("triton")),
        pod(waiting("triton", "ContainerCreating")),
        pod(waiting("triton", "PodInitializing"), init=(running("repository"),)),
        {"metadata": {}, "status": {"phase": "Pending"}},
        {"metadata": {}},
    ],
    ids=["running", "creating", "initializing", "new", "without status"],
)
def test_a_pod_that_is_on_its_way_is_no_trouble(fine: dict[str, Any]) -> None:
    assert trouble([fine]) is None


def test_a_step_that_has_just_failed_is_no_trouble_before_its_job_says_so() -> None:
    ended = {"name": "inspect", "state": {"terminated": {"exitCode": 42, "message": "{}"}}}
    assert job_state(job(), [pod(ended)], "Crashed") == JobState("Pending")


def test_pods_of_a_job_are_told_apart_and_ordered_by_age() -> None:
    old, new, other = pod(), pod(), pod()
    old["metadata"]["creationTimestamp"] = "2026-11-24T05:00:00Z"
    other["metadata"]["labels"] = {JOB_LABEL: "eb-2"}
    assert of_job([new, other, old], "eb-1") == (old, new)


def test_a_job_without_a_pod_is_pending() -> None:
    assert job_state(job(), (), "Crashed").phase == "Pending"


def test_a_job_whose_pod_fits_nowhere_is_pending_and_says_why() -> None:
    state = job_state(job(), [pod(**UNSCHEDULABLE)], "Crashed")
    assert state.phase == "Pending"
    assert state.trouble is not None
    assert state.trouble.reason == reasons.NO_NODE_FITS


def test_a_running_job_names_its_step() -> None:
    now = pod(waiting("measure", "PodInitializing"), init=(ended("fetch"), running("export")))
    state = job_state(job(), [now], "Crashed")
    assert (state.phase, state.step) == ("Running", "export")


def test_a_job_between_two_steps_names_none() -> None:
    now = pod(waiting("measure", "PodInitializing"), init=(ended("fetch"), waiting("export", "PodInitializing")))
    assert job_state(job(), [now], "Crashed").step is None


@pytest.mark.parametrize("condition", ["Complete", "SuccessCriteriaMet"])
def test_a_finished_job_gives_the_last_containers_answer(condition: str) -> None:
    done = pod(ended("measure", message='{"artifact": 1}'), init=(ended("fetch", message="x"), ended("export")))
    state = job_state(job(condition), [done], "Crashed")
    assert (state.phase, state.answer) == ("Succeeded", '{"artifact": 1}')


def test_a_finished_job_whose_pod_is_gone_gives_no_answer() -> None:
    assert job_state(job("Complete"), (), "Crashed").answer is None


@pytest.mark.parametrize(("owner", "phase"), [("this", "Succeeded"), ("one-before", "Pending"), (None, "Pending")])
def test_the_end_of_a_jobs_own_pod_is_its_end(owner: str | None, phase: str) -> None:
    done = pod(ended("measure", message='{"artifact": 1}'), init=(ended("fetch"),), phase="Running")
    done["metadata"]["ownerReferences"] = [{"uid": owner}] if owner else []
    open_ = job()
    open_["metadata"]["uid"] = "this"
    assert job_state(open_, [done], "Crashed").phase == phase


def test_a_condition_that_is_not_true_does_not_count() -> None:
    open_ = {"metadata": {"name": "eb-1"}, "status": {"conditions": [{"type": "Failed", "status": "False"}]}}
    assert job_state(open_, [pod(running("measure"))], "Crashed").phase == "Running"


def test_a_step_that_gives_up_says_why_in_its_own_words() -> None:
    gave_up = pod(waiting("measure", "PodInitializing"), init=(ended("fetch", 42, FAILURE), running("export")))
    failure = job_state(job("Failed"), [gave_up], "Crashed").failure
    assert failure is not None
    assert (failure.reason, failure.field, failure.remedy) == ("PickleCheckpoint", "spec.model.uri", "convert")


@pytest.mark.parametrize("message", ["Killed", '{"reason": 1}', "42", "null", "[]"])
def test_a_step_that_crashes_tells_its_last_line_and_where_to_look(message: str) -> None:
    crashed = pod(ended("measure", 137, message), init=(ended("fetch"), ended("export")))
    failure = job_state(job("Failed"), [crashed], "Crashed").failure
    assert failure is not None
    assert failure.reason == "Crashed"
    assert failure.message == f"step measure ended with exit code 137: {message}"
    assert failure.remedy == "see `kubectl logs job/eb-1 -c measure`"


def test_a_step_that_ran_out_of_memory_says_so() -> None:
    killed = pod(ended("measure", 137, reason="OOMKilled"))
    failure = job_state(job("Failed"), [killed], "Crashed").failure
    assert failure is not None
    assert "OOMKilled" in failure.message


@pytest.mark.parametrize("condition", ["Failed", "FailureTarget"])
def test_a_job_that_ends_without_a_failed_container_has_the_controllers_words(condition: str) -> None:
    late = job(condition, reason="DeadlineExceeded", message="Job was active longer than specified deadline")
    failure = job_state(late, [pod(running("measure"))], "Crashed").failure
    assert failure is not None
    assert failure.message == "DeadlineExceeded: Job was active longer than specified deadline"


def test_a_job_that_fails_without_a_word_is_still_told_of() -> None:
    failure = job_state(
        job("Failed") | {"status": {"conditions": [{"type": "Failed", "status": "True"}]}}, (), "Crashed"
    )
    assert failure.failure is not None
    assert failure.failure.reason == "Crashed"
