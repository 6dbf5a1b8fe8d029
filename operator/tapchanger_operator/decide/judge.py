"""The border between the API's and the observer's types and the statistics: from windows to a judgement and its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tapchanger_operator.api import reasons
from tapchanger_operator.api.base import seconds, timestamp, unix
from tapchanger_operator.api.spec import Objective as ObjectiveSpec
from tapchanger_operator.api.spec import TransformerDeploymentSpec
from tapchanger_operator.api.status import AnalysisStatus, CanaryStatus, ObjectiveEvidence, TransformerDeploymentStatus
from tapchanger_operator.decide.analysis import (
    AnalysisState,
    Counts,
    Evidence,
    Look,
    Objective,
    ObjectiveCounts,
    Settings,
    analyse,
)
from tapchanger_operator.decide.state import Judgement
from tapchanger_serving.contract.windows import RevisionWindow, Windows

_LARGEST_E_VALUE: Final = 1e12
_EXEMPLARS: Final = 3


@dataclass(frozen=True)
class Judged:
    """The verdict for the rollout, and the record of it for status."""

    judgement: Judgement
    record: AnalysisStatus


def objective_name(objective: ObjectiveSpec) -> str:
    """An objective in words: `99% within 50ms`, `99.9% available`."""
    if objective.latency is not None and objective.target is not None:
        return f"{objective.target * 100:.6g}% within {objective.latency}"
    return f"{(objective.availability or 0) * 100:.6g}% available"


def objectives(spec: TransformerDeploymentSpec) -> tuple[Objective, ...]:
    """The spec's objectives as the statistics take them."""
    found = []
    for objective in spec.slo.objectives:
        if objective.latency is not None and objective.target is not None:
            threshold = seconds(objective.latency)
            found.append(Objective(objective_name(objective), "latency", objective.target, threshold))
        elif objective.availability is not None:
            found.append(Objective(objective_name(objective), "availability", objective.availability))
    return tuple(found)


def window_of(windows: Windows, revision: str) -> RevisionWindow:
    """What was seen of `revision`; an empty window where nothing was."""
    return next((w for w in windows.revisions if w.revision == revision), RevisionWindow(revision=revision))


def counts(objective: Objective, window: RevisionWindow) -> Counts:
    """Requests and bad ones of one objective."""
    if objective.kind == "availability":
        return Counts(window.requests, window.unavailable)
    over = [c.bad for c in window.over if abs(c.threshold - (objective.threshold_seconds or 0)) < 1e-9]
    if not over and window.requests:
        raise LookupError(f"the observer did not count against {objective.name}")
    return Counts(window.requests, over[0] if over else 0)


def judge(
    spec: TransformerDeploymentSpec,
    status: TransformerDeploymentStatus,
    since_canary: Windows | None,
    since_step: Windows | None,
    silence: str | None,
    now: float,
) -> Judged | None:
    """The judgement on the canary in `status`; None while it gets no traffic.

    `since_canary` and `since_step` are the windows since the canary got traffic and since its step began, None where the
    observer is silent (`silence` says why).
    """
    canary, stable = status.canary, status.stable
    if canary is None or canary.step_started_at is None or canary.since is None:
        return None
    known = status.analysis
    if known and (known.revision != canary.revision or known.at < canary.since):
        known = None  # what an earlier canary left says nothing of this one, even where the content is the same
    state = AnalysisState.from_dict(known.state if known else None)
    beside = stable.revision if stable else ""
    try:
        look = _look(objectives(spec), canary, beside, since_canary, since_step, now)
    except LookupError as problem:
        silence = str(problem.args[0])
        look = _look(objectives(spec), canary, beside, None, None, now)
    settings = Settings(
        false_alarm=spec.rollout.analysis.false_alarm,
        min_requests=spec.rollout.analysis.min_requests,
        timeout=seconds(spec.rollout.analysis.timeout),
    )
    verdict, after = analyse(objectives(spec), look, settings, state)
    window = window_of(since_canary, canary.revision) if since_canary else RevisionWindow(revision=canary.revision)
    message = verdict.message if silence is None else f"{verdict.message} ({silence})"
    record = AnalysisStatus(
        revision=canary.revision,
        verdict=verdict.result,
        reason=verdict.reason,
        message=message,
        requests=window.requests,
        evidence=[_recorded(entry) for entry in verdict.evidence],
        exemplars=[exemplar.trace_id for exemplar in window.exemplars[:_EXEMPLARS]],
        at=timestamp(now),
        state=after.to_dict(),
    )
    return Judged(Judgement(verdict.result, verdict.reason, message, window.first_bad), record)


def unreadable(status: TransformerDeploymentStatus, now: float) -> AnalysisStatus | None:
    """The record that drops a memory which can't be read, so that the analysis starts anew."""
    return status.analysis and status.analysis.model_copy(update={"state": {}, "at": timestamp(now)})


def _look(
    wanted: Sequence[Objective],
    canary: CanaryStatus,
    stable: str,
    since_canary: Windows | None,
    since_step: Windows | None,
    now: float,
) -> Look:
    elapsed = now - unix(canary.step_started_at or canary.created_at)
    if since_canary is None or since_step is None:
        return Look({}, canary.weight, elapsed, data_age=None)
    whole = {revision: window_of(since_canary, revision) for revision in (canary.revision, stable)}
    step = {revision: window_of(since_step, revision) for revision in (canary.revision, stable)}
    by_name = {
        objective.name: ObjectiveCounts(
            canary=counts(objective, whole[canary.revision]),
            stable=counts(objective, whole[stable]),
            step_canary=counts(objective, step[canary.revision]),
            step_stable=counts(objective, step[stable]),
        )
        for objective in wanted
    }
    return Look(by_name, canary.weight, elapsed, data_age=max(0.0, now - since_canary.now))


def _recorded(entry: Evidence) -> ObjectiveEvidence:
    return ObjectiveEvidence(
        objective=entry.objective,
        requests=entry.canary.requests,
        bad=entry.canary.bad,
        stable_requests=entry.stable.requests,
        stable_bad=entry.stable.bad,
        e_value=min(entry.e_value, _LARGEST_E_VALUE),
        threshold=entry.threshold,
    )


def slo_reason(spec: TransformerDeploymentSpec, window: RevisionWindow) -> tuple[str, str, list[str]]:
    """(`True`/`False`/`Unknown`, sentence, one line for each objective) of the stable revision over `slo.window`."""
    if window.requests == 0:
        return "Unknown", f"no requests in the last {spec.slo.window}", []
    lines, missed = [], []
    for objective in objectives(spec):
        seen = counts(objective, window)
        met = seen.rate <= objective.budget
        lines.append(f"{objective.name}: {100 * (1 - seen.rate):.3f}% of {seen.requests} requests")
        if not met:
            missed.append(objective.name)
    if missed:
        return "False", f"missed over the last {spec.slo.window}: {', '.join(missed)}", lines
    return "True", f"all objectives kept over the last {spec.slo.window} ({window.requests} requests)", lines


REASON_BY_SLO: Final = {
    "True": reasons.OBJECTIVES_MET,
    "False": reasons.OBJECTIVE_BREACHED,
    "Unknown": reasons.NO_REQUESTS,
}
