"""The status of an EngineBuild."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

from tapchanger_operator import names
from tapchanger_operator.api import reasons
from tapchanger_operator.api.base import unix
from tapchanger_operator.api.enginebuild import EngineBuildStatus, Phase
from tapchanger_operator.resolve.resolution import sentence
from tapchanger_operator.snapshot import Damage, JobState
from tapchanger_operator.status.conditions import condition, merged
from tapchanger_serving.contract.messages import BuildReport, StepFailure
from tapchanger_serving.contract.stored import artifact_path, report_path

_PHASES: Final[dict[str, Phase]] = {
    "fetch": "Fetching",
    "export": "Exporting",
    "distill": "Distilling",
    "measure": "Measuring",
}
_WORDS: Final[dict[Phase, str]] = {
    "Pending": "waiting for a node and the builder image",
    "Fetching": "fetching the checkpoint",
    "Exporting": "exporting the model and recording PyTorch's answers",
    "Distilling": "training a smaller student with the model as its teacher",
    "Measuring": "measuring the candidates and checking the gates",
}


def compose(
    name: str, before: EngineBuildStatus, job: JobState | None, generation: int, now: float
) -> EngineBuildStatus:
    """The status of the build `name`, whose Job stands as `job` says. A build that has ended stays as it is."""
    if before.phase in ("Ready", "Failed"):
        return before
    if job is None:
        return _running(before, "Pending", None, generation, now)
    if job.phase == "Succeeded":
        return _succeeded(name, before, job, generation, now)
    if job.phase == "Failed":
        failure = job.failure or StepFailure(
            reason=reasons.BUILD_CRASHED, message="the build's Job failed without a message"
        )
        return _failed(
            before, failure.reason, sentence(failure.message, failure.remedy, failure.field), generation, now
        )
    # Between two steps no container runs; the phase does not fall back meanwhile.
    phase = _PHASES.get(job.step or "", before.phase)
    return _running(before, phase, job, generation, now)


def damaged(before: EngineBuildStatus, seen: Damage, generation: int, now: float) -> EngineBuildStatus | None:
    """The status of a finished build whose artifact a server has found damaged since: it runs again. None: nothing changes.

    What was said before the build became ready was about what this build has already replaced.
    """
    ready = next((c for c in before.conditions if c.type == reasons.READY and c.status == "True"), None)
    if before.phase != "Ready" or ready is None or seen.at <= unix(ready.last_transition_time):
        return None
    message = f"{seen.message}; the engine is built again"
    parts = [
        condition(reasons.READY, "False", reasons.ARTIFACT_DAMAGED, message),
        condition(reasons.STALLED, "False", reasons.ARTIFACT_DAMAGED),
    ]
    return EngineBuildStatus(
        observed_generation=generation,
        phase="Pending",
        message=message,
        conditions=merged(before.conditions, parts, generation, now),
    )


def _running(
    before: EngineBuildStatus, phase: Phase, job: JobState | None, generation: int, now: float
) -> EngineBuildStatus:
    trouble = job.trouble if job else None
    message = trouble.message if trouble else _WORDS[phase]
    reason = trouble.reason if trouble else reasons.BUILDING
    parts = [
        condition(reasons.READY, "False", reason, message),
        condition(reasons.STALLED, "True" if trouble else "False", reason, trouble.message if trouble else ""),
    ]
    return EngineBuildStatus(
        observed_generation=generation,
        phase=phase,
        message=message,
        conditions=merged(before.conditions, parts, generation, now),
    )


def _succeeded(name: str, before: EngineBuildStatus, job: JobState, generation: int, now: float) -> EngineBuildStatus:
    try:
        report = BuildReport.model_validate_json(job.answer or "")
    except ValidationError as problem:
        message = f"the build's report can't be read ({problem.error_count()} errors); are operator and builder of one release?"
        return _failed(before, reasons.BUILD_CRASHED, message, generation, now)
    student = f" ({report.student_layers}-layer student)" if report.student_layers else ""
    engine = f"{report.runtime}/{report.precision}{student}"
    parts = [
        condition(reasons.READY, "True", reasons.BUILD_READY, report.why),
        condition(reasons.STALLED, "False", reasons.NOT_STALLED),
    ]
    return EngineBuildStatus(
        observed_generation=generation,
        phase="Ready",
        engine=engine,
        speedup=f"{report.speedup:.2f}x",
        message=report.why,
        conditions=merged(before.conditions, parts, generation, now),
        report=report.model_copy(update={"artifact_uri": None, "report_uri": None}),
        artifact_uri=report.artifact_uri or f"pvc://{names.STORE_CLAIM}/{artifact_path(report.artifact)}",
        report_uri=report.report_uri or f"pvc://{names.STORE_CLAIM}/{report_path(name)}",
    )


def _failed(before: EngineBuildStatus, reason: str, message: str, generation: int, now: float) -> EngineBuildStatus:
    parts = [condition(reasons.READY, "False", reason, message), condition(reasons.STALLED, "True", reason, message)]
    return EngineBuildStatus(
        observed_generation=generation,
        phase="Failed",
        message=message,
        conditions=merged(before.conditions, parts, generation, now),
    )
