"""How a step says that it gave up: one exception, carrying the message that the user will read."""

from __future__ import annotations

from tapchanger_serving.contract.messages import StepFailure

MODEL_FIELD = "spec.model.uri"
TASK_FIELD = "spec.model.task"
ENGINE_FIELD = "spec.engine"
GATES_FIELD = "spec.engine.gates"
CREDENTIALS_FIELD = "spec.model.credentials.secretName"
STORE_FIELD = "Helm value store.uri"
STORE_CREDENTIALS_FIELD = "Helm value store.credentials.secretName"
DATASET_FIELD = "spec.engine.gates.evaluation.dataset"
DISTILL_FIELD = "spec.engine.distill"
CALIBRATION_FIELD = "spec.engine.calibrationData"
DRIFT_FIELD = "spec.drift.reference"


class StepError(Exception):
    """The step can't succeed until the user changes something. `failure` says what, in words."""

    def __init__(self, reason: str, message: str, *, field: str | None = None, remedy: str | None = None) -> None:
        super().__init__(f"{reason}: {message}")
        self.failure = StepFailure(reason=reason, message=message, field=field, remedy=remedy)


class TransientStepError(StepError):
    """The step failed for a reason that may pass by itself, so the Job may try again."""


class WrongNodeError(Exception):
    """The step runs on other hardware than the engine is for; another node may fit, so the Job may try again."""
