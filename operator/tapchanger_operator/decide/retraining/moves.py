"""The moves of a run: each takes its record to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tapchanger_operator import names
from tapchanger_operator.api.base import seconds, timestamp, unix
from tapchanger_operator.api.drift import DriftStatus
from tapchanger_operator.api.retraining import (
    DriftAnswered,
    Outcome,
    RetrainingSpec,
    RetrainingStatus,
    RunFrom,
    RunStatus,
)
from tapchanger_operator.api.spec import TransformerDeploymentSpec
from tapchanger_operator.decide.drift.respond import drifted
from tapchanger_operator.decide.state import State
from tapchanger_operator.errors import UserError
from tapchanger_operator.names import Owner
from tapchanger_operator.resolve.identity import drift_data
from tapchanger_operator.resolve.resolution import Resolution
from tapchanger_operator.snapshot import Snapshot
from tapchanger_serving.contract.retraining import DriftBucketReport, DriftFigureReport, DriftReport, Trigger

RUNS_KEPT: Final = 10
_CONTENT: Final = ("Promoted", "RolledBack", "BuildFailed", "SameContent")
"""Outcomes after which the run has done what it can about a drift."""
_DOUBLINGS: Final = 20


@dataclass(frozen=True)
class Scene:
    """What a look at retraining goes by. `state` is who serves after this pass; `refused` is what the cluster did not accept of
    the run's objects.
    """

    snapshot: Snapshot
    resolution: Resolution
    state: State
    drift: DriftStatus | None
    refused: UserError | None = None

    @property
    def now(self) -> float:
        """Unix seconds."""
        return self.snapshot.now

    @property
    def spec(self) -> TransformerDeploymentSpec:
        """The deployment's spec."""
        return self.snapshot.spec


def begin(scene: Scene, trigger: Trigger, why: str, by: str = "") -> RunStatus | None:
    """The record of a new run; None where nothing serves that could be trained further."""
    stable, model = scene.state.stable, scene.resolution.model
    if stable is None or stable.since is None or model is None:
        return None
    build, content = scene.snapshot.builds.get(stable.build), scene.snapshot.contents.get(stable.revision)
    report = drift_report(scene.drift)
    given = RunFrom(
        model=build.spec.model.digest if build else model.digest,
        uri=scene.spec.model.uri,
        content=model.digest,
        revision=stable.revision,
        build=stable.build,
        reference=_reference(scene.spec),
        artifact=content.artifact if content else None,
        capture=captured(scene.spec.wire(), scene.snapshot.owner),
        drift=report,
        drift_digest=names.content_digest(report.dumps()) if report else None,
    )
    started = timestamp(scene.now)
    name = f"r{names.content_hash([scene.snapshot.owner.uid, trigger, started], 9)}"
    return RunStatus(
        name=name, trigger=trigger, by=by, why=why, started=started, phase="Starting", inputs=given, message="starts"
    )


def captured(spec: Mapping[str, Any], owner: Owner) -> str | None:
    """Where requests of `owner` are captured, by its `spec` as a manifest has it; None where it captures none."""
    found = spec.get("capture", {}).get("destination", {}).get("uri")
    return f"{found.rstrip('/')}/{owner.namespace}/{owner.name}" if found else None


def _reference(spec: TransformerDeploymentSpec) -> str | None:
    """The texts that traffic is compared with, by their address."""
    if own := drift_data(spec):
        return own.uri
    evaluation = spec.engine.gates.evaluation
    return evaluation.dataset.uri if evaluation and spec.drift.reference in (None, "evaluation") else None


def drift_report(record: DriftStatus | None) -> DriftReport | None:
    """What a run is told of a drift; None where nothing moved."""
    if record is None or not drifted(record):
        return None
    return DriftReport(
        revision=record.revision,
        feature=record.feature or record.verdict,
        signal=record.signal or "",
        since=record.since or record.at,
        reference=record.reference,
        evidence=record.evidence,
        threshold=record.threshold,
        texts=record.texts,
        mmd=record.mmd,
        figures=tuple(DriftFigureReport(**one.model_dump()) for one in record.figures),
        buckets=tuple(DriftBucketReport(**one.model_dump()) for one in record.buckets),
    )


def close(status: RetrainingStatus, spec: RetrainingSpec | None, run: RunStatus, now: float) -> RetrainingStatus:
    """The run is over: it joins the others, and says when there may be another."""
    at = timestamp(now)
    kept = run.inputs.model_copy(update={"drift": None})
    feature = run.inputs.drift.feature if run.inputs.drift else None
    closed = run.model_copy(update={"phase": "Ended", "closed": at, "ended": run.ended or at, "inputs": kept})
    failed = run.outcome == "Failed"
    failures = status.failures + 1 if failed else 0
    answered = status.answered
    if feature and run.outcome in _CONTENT:
        answered = DriftAnswered(run=run.name, feature=feature)
    not_before = None
    if spec is not None and run.outcome != "Superseded":
        # A scheduled run counts from when it was due, or a daily one would start later every day.
        due = status.scheduled if run.trigger == "Schedule" else None
        wait = unix(due or run.started) + seconds(spec.min_interval)
        not_before = timestamp(now + _backoff(spec, failures) if failed else wait)
    return status.model_copy(
        update={
            "run": None,
            "runs": [*status.runs, closed][-RUNS_KEPT:],
            "failures": failures,
            "not_before": not_before,
            "answered": answered,
        }
    )


def ended(run: RunStatus, outcome: Outcome, message: str) -> RunStatus:
    """The run with its outcome, which :func:`close` takes."""
    return run.model_copy(update={"outcome": outcome, "message": message})


def _backoff(spec: RetrainingSpec, failures: int) -> float:
    """Seconds to wait after the last of `failures` in a row."""
    doubled = seconds(spec.backoff.initial) * 2.0 ** min(failures - 1, _DOUBLINGS)
    return min(doubled, seconds(spec.backoff.max))
