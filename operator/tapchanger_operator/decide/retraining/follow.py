"""One look at retraining: orders, the run under way, and whether another begins."""

from __future__ import annotations

from tapchanger_operator.api import reasons
from tapchanger_operator.api.retraining import RetrainingAnswer, RetrainingStatus, RunStatus
from tapchanger_operator.decide.retraining import moves, orders, start
from tapchanger_operator.decide.retraining.moves import Scene
from tapchanger_operator.decide.retraining.progress import advance
from tapchanger_operator.decide.retraining.rollout import taken_back
from tapchanger_operator.decide.state import Change

_REASONS = {
    "Promoted": reasons.RETRAINING_PROMOTED,
    "RolledBack": reasons.RETRAINING_ROLLED_BACK,
    "BuildFailed": reasons.RETRAINING_BUILD_FAILED,
    "SameContent": reasons.RETRAINING_SAME_CONTENT,
    "Failed": reasons.RETRAINING_FAILED,
    "Superseded": reasons.RETRAINING_SUPERSEDED,
}


def reason_of(run: RunStatus) -> str:
    """The reason that tells a run's outcome."""
    return _REASONS[run.outcome or "Failed"]


def follow(scene: Scene) -> tuple[RetrainingStatus | None, tuple[Change, ...]]:
    """The status after this look, and what happened. None where retraining never was in the spec.

    A run's Job is made in the pass after the one that wrote the run into status: an operator that is killed in between makes the
    same one, and never a second.
    """
    spec, known = scene.spec.retraining, scene.snapshot.status.retraining
    if spec is None and known is None and not scene.snapshot.steering.retraining:
        return None, ()
    before = known or RetrainingStatus()
    status, answers = orders.carry_out(spec, before, scene)
    changes = [_refusal(answer) for answer in answers if not answer.done]
    if status.run and status.run is before.run:
        status = status.model_copy(update={"run": advance(status.run, scene)})
    if status.run and status.run.outcome:
        changes.append(_end(status.run))
        status = moves.close(status, spec, status.run, scene.now)
    status = _after_promotion(status, scene, changes)
    if spec and status.run is None:
        found = start.consider(spec, status, scene)
        status = found.status
        if found.missed:
            changes.append(Change("Warning", reasons.RETRAINING_MISSED, found.missed))
    if run := status.run:
        status = status.model_copy(update={"message": f"run {run.name} ({run.trigger}): {run.message}"})
        changes += _steps(before.run, run)
    if spec is None and status.run is None:
        status = status.model_copy(update={"message": "", "next": None, "not_before": None})
    return status, tuple(changes)


def _after_promotion(status: RetrainingStatus, scene: Scene, changes: list[Change]) -> RetrainingStatus:
    if not status.runs:
        return status
    last = taken_back(status.runs[-1], scene)
    if last is status.runs[-1]:
        return status
    changes.append(_end(last))
    return status.model_copy(update={"runs": [*status.runs[:-1], last]})


def _steps(before: RunStatus | None, run: RunStatus) -> list[Change]:
    """Events about a run under way: that it began, and that its content came."""
    if before is None or before.name != run.name:
        by = f" by {run.by}" if run.by else ""
        why = f": {run.why}" if run.why else ""
        told = f"run {run.name} starts ({run.trigger}{by}{why}) from model {run.inputs.model}"
        return [Change("Normal", reasons.RETRAINING_STARTED, told, by=run.by)]
    if run.phase == "RollingOut" and before.phase != "RollingOut":
        told = f"run {run.name} left new content at {run.inputs.uri}: {run.digest}"
        return [Change("Normal", reasons.RETRAINING_CONTENT, told)]
    return []


def _end(run: RunStatus) -> Change:
    good = run.outcome in ("Promoted", "SameContent", "Superseded")
    lineage = " → ".join(part for part in (run.digest, run.build, run.revision) if part)
    told = f"run {run.name}: {run.message}" + (f" ({lineage})" if lineage else "")
    return Change("Normal" if good else "Warning", reason_of(run), told)


def _refusal(answer: RetrainingAnswer) -> Change:
    told = f"tapchanger.dev/{answer.order}: {answer.message}"
    return Change("Warning", reasons.ORDER_REFUSED, told, by=answer.by)
