"""The condition Retraining."""

from __future__ import annotations

from tapchanger_operator.api import reasons
from tapchanger_operator.api.retraining import RetrainingStatus
from tapchanger_operator.api.status import Condition
from tapchanger_operator.decide.drift.respond import drifted
from tapchanger_operator.decide.retraining.follow import reason_of
from tapchanger_operator.status.conditions import condition
from tapchanger_operator.status.situation import Situation

_PHASES = {"Waiting": reasons.RETRAINING_WAITING, "RollingOut": reasons.RETRAINING_CONTENT}


def retraining(situation: Situation) -> list[Condition]:
    """True while a run or its content is under way; none where the spec has no retraining."""
    status, spec = situation.retraining, situation.snapshot.spec.retraining
    if status is None or spec is None:
        return []
    if status.run:
        reason = _PHASES.get(status.run.phase, reasons.RETRAINING_STARTED)
        return [condition(reasons.RETRAINING, "True", reason, status.message)]
    return [condition(reasons.RETRAINING, "False", _at_rest(status, situation), status.message)]


def _at_rest(status: RetrainingStatus, situation: Situation) -> str:
    if status.waits:
        return reasons.RETRAINING_FAILED if status.failures else reasons.RETRAINING_PENDING
    if status.answered and situation.snapshot.spec.drift.action == "Retrain" and drifted(situation.drift):
        return reasons.DRIFT_PERSISTS
    return reason_of(status.runs[-1]) if status.runs else reasons.RETRAINING_IDLE
