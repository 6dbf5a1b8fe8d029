"""The status of an EngineBuild, from where its Job stands."""

from __future__ import annotations

from typing import Any

import pytest

from tapchanger_operator.api import reasons
from tapchanger_operator.api.enginebuild import EngineBuildStatus
from tapchanger_operator.snapshot import JobState, Trouble
from tapchanger_operator.status.builds import compose
from tapchanger_serving.contract.messages import StepFailure
from tests.support import kstatus
from tests.support.samples import report
from tests.support.schemas import problems, schema_of

T0 = 1_700_000_000.0
NEW = EngineBuildStatus()
UNFIT = Trouble(reasons.NO_NODE_FITS, "0/1 nodes are available: 1 Insufficient memory.")


def after(job: JobState | None, before: EngineBuildStatus = NEW) -> EngineBuildStatus:
    return compose("eb-1", before, job, 1, T0)


def conditions(status: EngineBuildStatus) -> dict[str, tuple[str, str]]:
    return {c.type: (c.status, c.reason) for c in status.conditions}


@pytest.mark.parametrize(
    ("step", "phase", "words"),
    [
        (None, "Pending", "waiting for a node and the builder image"),
        ("fetch", "Fetching", "fetching the checkpoint"),
        ("export", "Exporting", "exporting the model"),
        ("distill", "Distilling", "training a smaller student"),
        ("measure", "Measuring", "measuring the candidates"),
    ],
)
def test_each_step_is_a_phase_in_words(step: str | None, phase: str, words: str) -> None:
    status = after(JobState("Running" if step else "Pending", step=step))
    assert status.phase == phase
    assert words in status.message
    assert conditions(status) == {"Ready": ("False", reasons.BUILDING), "Stalled": ("False", reasons.BUILDING)}


def test_the_phase_does_not_fall_back_between_two_steps() -> None:
    exporting = after(JobState("Running", step="export"))
    assert after(JobState("Pending"), exporting).phase == "Exporting"


def test_a_build_in_a_store_elsewhere_says_where() -> None:
    told = {"artifact_uri": "oci://registry/engines@sha256:1", "report_uri": "oci://registry/engines:eb-1@sha256:2"}
    status = after(JobState("Succeeded", answer=report().model_copy(update=told).dumps()))
    assert {"artifact_uri": status.artifact_uri, "report_uri": status.report_uri} == told
    assert status.report == report()


def test_a_finished_build_keeps_its_report() -> None:
    status = after(JobState("Succeeded", answer=report().dumps()))
    assert (status.phase, status.engine, status.speedup) == ("Ready", "openvino/bf16", "3.01x")
    assert status.report == report()
    assert status.report_uri == "pvc://tapchanger-artifacts/reports/eb-1.json"
    assert status.artifact_uri == f"pvc://tapchanger-artifacts/artifacts/{report().artifact.replace(':', '-')}"
    assert conditions(status)["Ready"] == ("True", reasons.BUILD_READY)
    assert "fastest of 4" in status.message


def test_an_engine_of_a_student_is_called_one() -> None:
    student = report().model_copy(update={"student_layers": 3})
    assert after(JobState("Succeeded", answer=student.dumps())).engine == "openvino/bf16 (3-layer student)"


def test_a_failed_build_has_the_steps_reason_and_remedy() -> None:
    failure = StepFailure(reason="GateFailed", message="accuracy is 0.91", field="spec.engine.gates", remedy="lower it")
    status = after(JobState("Failed", failure=failure))
    assert status.phase == "Failed"
    assert status.message == "spec.engine.gates: accuracy is 0.91; lower it"
    assert conditions(status) == {"Ready": ("False", "GateFailed"), "Stalled": ("True", "GateFailed")}


def test_a_build_that_failed_without_a_word_is_a_crash() -> None:
    assert conditions(after(JobState("Failed")))["Ready"] == ("False", reasons.BUILD_CRASHED)


@pytest.mark.parametrize("answer", [None, "", "{}", "Traceback", '{"artifact": 7}'])
def test_a_report_that_cannot_be_read_is_a_crash_and_never_a_success(answer: str | None) -> None:
    status = after(JobState("Succeeded", answer=answer))
    assert status.phase == "Failed"
    assert conditions(status)["Ready"] == ("False", reasons.BUILD_CRASHED)
    assert "one release" in status.message


def test_a_build_that_no_node_takes_is_stalled_until_one_does() -> None:
    stuck = after(JobState("Pending", trouble=UNFIT))
    assert stuck.phase == "Pending"
    assert conditions(stuck)["Stalled"] == ("True", reasons.NO_NODE_FITS)
    going = after(JobState("Running", step="fetch"), stuck)
    assert conditions(going)["Stalled"] == ("False", reasons.BUILDING)


@pytest.mark.parametrize(
    "ended",
    [after(JobState("Succeeded", answer=report().dumps())), after(JobState("Failed"))],
    ids=["ready", "failed"],
)
@pytest.mark.parametrize("job", [None, JobState("Pending"), JobState("Running", step="fetch"), JobState("Failed")])
def test_a_build_that_has_ended_stays_as_it_is(ended: EngineBuildStatus, job: JobState | None) -> None:
    assert after(job, ended) == ended


@pytest.mark.parametrize(
    ("job", "health"),
    [
        (None, "InProgress"),
        (JobState("Running", step="export"), "InProgress"),
        (JobState("Succeeded", answer=report().dumps()), "Current"),
        (JobState("Failed"), "Failed"),
        (JobState("Pending", trouble=UNFIT), "Failed"),
    ],
)
def test_deployers_read_true_health(job: JobState | None, health: str) -> None:
    wire: dict[str, Any] = after(job).model_dump(mode="json", by_alias=True, exclude_none=True)
    assert kstatus.health({"metadata": {"generation": 1}, "status": wire}) == health
    assert problems(schema_of("EngineBuild", "status"), wire) == []


def test_looking_again_changes_nothing() -> None:
    running = after(JobState("Running", step="export"))
    assert compose("eb-1", running, JobState("Running", step="export"), 1, T0 + 60) == running
