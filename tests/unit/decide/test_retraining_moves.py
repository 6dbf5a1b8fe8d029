"""What a run that is over leaves behind: when there may be another, and what stays of it."""

from __future__ import annotations

from typing import Any

import pytest

from tapchanger_operator.api.base import timestamp, unix
from tapchanger_operator.api.retraining import RetrainingSpec, RetrainingStatus
from tapchanger_operator.decide.retraining.moves import RUNS_KEPT, close, ended
from tests.support.retraining_samples import TRAINER, run

NOW = unix("2026-11-24T10:30:00.000Z")
SPEC = RetrainingSpec.model_validate({"job": TRAINER, "backoff": {"initial": "10m", "max": "1h"}})


def closed(status: RetrainingStatus, outcome: Any, **changes: Any) -> RetrainingStatus:
    return close(status, SPEC, ended(run(**changes), outcome, "so it is"), NOW)


@pytest.mark.parametrize(("before", "minutes"), [(0, 10), (1, 20), (2, 40), (3, 60), (500, 60)])
def test_the_wait_after_failures_doubles_up_to_its_bound(before: int, minutes: int) -> None:
    after = closed(RetrainingStatus(failures=before), "Failed")
    assert after.failures == before + 1
    assert unix(after.not_before or "") == NOW + minutes * 60
    assert after.answered is None


@pytest.mark.parametrize("outcome", ["Promoted", "RolledBack", "BuildFailed", "SameContent"])
def test_a_run_that_came_to_content_has_answered_the_drift(outcome: str) -> None:
    after = closed(RetrainingStatus(failures=3), outcome)
    assert after.failures == 0
    assert after.answered
    assert after.answered.feature == "vocabulary"
    assert after.not_before == "2026-11-25T10:00:00.000Z"


def test_a_scheduled_run_counts_from_when_it_was_due() -> None:
    due = "2026-11-24T09:59:00.000Z"
    assert (
        closed(RetrainingStatus(scheduled=due), "Promoted", trigger="Schedule").not_before == "2026-11-25T09:59:00.000Z"
    )


def test_a_superseded_run_keeps_nobody_waiting() -> None:
    assert closed(RetrainingStatus(not_before=timestamp(NOW)), "Superseded").not_before is None


def test_some_runs_are_kept_without_their_reports() -> None:
    status = RetrainingStatus()
    for _ in range(RUNS_KEPT + 5):
        status = closed(status, "Promoted")
    assert len(status.runs) == RUNS_KEPT
    last = status.runs[-1]
    assert (last.phase, last.inputs.drift, last.inputs.drift_digest) == ("Ended", None, f"sha256:{'d' * 64}")
