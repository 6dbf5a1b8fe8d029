"""The border between the API's and the observer's types and the statistics: from windows to a judgement and its record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tapchanger_operator.api.analysis import AnalysisStatus, MirrorStatus, ObjectiveEvidence
from tapchanger_operator.api.base import seconds, timestamp
from tapchanger_operator.api.rollout import RolloutSpec
from tapchanger_operator.api.spec import TransformerDeploymentSpec
from tapchanger_operator.api.status import TransformerDeploymentStatus
from tapchanger_operator.decide import mirror
from tapchanger_operator.decide.analysis import (
    AnalysisState,
    Evidence,
    Look,
    Objective,
    Settings,
    analyse,
)
from tapchanger_operator.decide.culprit import culprit_of, in_words
from tapchanger_operator.decide.objectives import both, objectives, window_of, worst_slice
from tapchanger_operator.decide.state import Judgement
from tapchanger_serving.contract.windows import RevisionWindow, Windows

_LARGEST_E_VALUE: Final = 1e12
_EXEMPLARS: Final = 3
PATIENCE_PART: Final = 1 / 3
"""The part of `timeout` that a step waits before thin traffic may pass it."""


@dataclass(frozen=True)
class Judged:
    """The verdict for the rollout, and the record of it for status."""

    judgement: Judgement
    record: AnalysisStatus


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
    subject = _Subject(
        canary.revision,
        canary.since,
        stable.revision if stable else "",
        canary.weight,
        canary.elapsed(now),
        known_good=canary.suspicions > 0,
    )
    return _judged(spec, status.analysis, subject, (since_canary, since_step), silence, now)


@dataclass(frozen=True)
class Mirrored:
    """The judgement on a canary that gets copied requests, the record of its objectives, and what is told of its answers."""

    judged: Judged
    figures: MirrorStatus


def judge_mirror(
    spec: TransformerDeploymentSpec,
    status: TransformerDeploymentStatus,
    windows: Windows | None,
    silence: str | None,
    now: float,
) -> Mirrored | None:
    """The judgement on the canary before its first step; None while no requests are copied to it.

    It fails by an objective, on which it is compared with the stable revision for the same requests, or by its answers.
    """
    canary, stable, policy = status.canary, status.stable, spec.rollout
    if canary is None or canary.mirror is None or not canary.mirroring or stable is None:
        return None
    subject = _Subject(
        canary.revision,
        canary.mirror.since,
        stable.revision,
        50,
        canary.elapsed(now),
        known_good=True,
        mirroring=True,
    )
    seen, figures = None, canary.mirror
    if windows is not None:
        window = mirror.window_of(windows, canary.revision, stable.revision)
        seen = mirror.as_windows(windows, window)
        figures = mirror.told(figures, window, policy.analysis.false_alarm * mirror.AGREEMENT_PART)
    judged = _judged(spec, status.analysis, subject, (seen, seen), silence, now)
    finding = mirror.judge(policy.mirror_gate, figures)
    verdict = judged.judgement
    if verdict.result != "Fail" and (verdict.result == "Pass" or finding.result == "Fail"):
        verdict = finding
    record = judged.record.model_copy(
        update={"verdict": verdict.result, "reason": verdict.reason, "message": verdict.message}
    )
    return Mirrored(Judged(verdict, record), figures)


def judge_watch(
    spec: TransformerDeploymentSpec,
    status: TransformerDeploymentStatus,
    since_promotion: Windows | None,
    silence: str | None,
    now: float,
) -> Judged | None:
    """The judgement on the stable revision since its promotion, against its budgets alone: nothing serves beside it."""
    stable = status.stable
    if stable is None or stable.since is None:
        return None
    subject = _Subject(stable.revision, stable.since, "", 100, 0.0, watching=True)
    return _judged(spec, status.analysis, subject, (since_promotion, since_promotion), silence, now)


@dataclass(frozen=True)
class _Subject:
    """Which revision is judged, since when (RFC 3339), beside which, at which weight, for how many seconds.

    `known_good`: it passed its steps once, or they are yet to come, so that it need not be waited for.
    """

    revision: str
    since: str
    beside: str
    weight: int
    elapsed: float
    watching: bool = False
    known_good: bool = False
    mirroring: bool = False

    def same(self, record: AnalysisStatus) -> bool:
        """Whether `record` is of the same test."""
        test = (record.revision, record.watching, record.mirroring)
        return test == (self.revision, self.watching, self.mirroring) and record.at >= self.since


def _judged(
    spec: TransformerDeploymentSpec,
    known: AnalysisStatus | None,
    subject: _Subject,
    seen: tuple[Windows | None, Windows | None],
    silence: str | None,
    now: float,
) -> Judged:
    if known and not subject.same(known):
        known = None  # what an earlier test left says nothing in this one, even where the content is the same
    state = AnalysisState.from_dict(known.state if known else None)
    wanted = objectives(spec, labelled=not subject.mirroring)
    try:
        look = _look(wanted, subject, *seen, now)
    except LookupError as problem:
        silence = str(problem.args[0])
        look = _look(wanted, subject, None, None, now)
    verdict, after = analyse(wanted, look, _settings(spec.rollout, subject), state)
    whole = seen[0]
    window = window_of(whole, subject.revision) if whole else RevisionWindow(revision=subject.revision)
    message = verdict.message if silence is None else f"{verdict.message} ({silence})"
    culprit = None
    broken = next((objective for objective in wanted if objective.name == verdict.objective), None)
    wrong = broken is not None and broken.labelled
    if whole and broken and verdict.result == "Fail" and wrong:
        where = worst_slice(window, window_of(whole, subject.beside))
        message = f"{message}; {where}" if where else message
    elif whole and broken and verdict.result == "Fail":
        culprit = culprit_of(broken, window, window_of(whole, subject.beside), whole.skews)
        message = f"{message}; {in_words(culprit)}" if culprit else message
        message = f"{message}; {whole.missing}" if whole.missing else message
    record = AnalysisStatus(
        revision=subject.revision,
        watching=subject.watching,
        mirroring=subject.mirroring,
        verdict=verdict.result,
        reason=verdict.reason,
        message=message,
        requests=window.requests,
        evidence=[_recorded(entry) for entry in verdict.evidence],
        exemplars=[] if wrong else [exemplar.trace_id for exemplar in window.exemplars[:_EXEMPLARS]],
        blame=culprit,
        at=timestamp(now),
        state=after.to_dict(),
    )
    return Judged(Judgement(verdict.result, verdict.reason, message, None if wrong else window.first_bad), record)


def _settings(policy: RolloutSpec, subject: _Subject) -> Settings:
    """How sure the verdict must be; mirroring and steps share `falseAlarm`."""
    if subject.mirroring:
        gate = policy.mirror_gate
        part = policy.analysis.false_alarm * mirror.ANALYSIS_PART
        return Settings(part, gate.min_requests, seconds(gate.timeout), patience=0.0)
    timeout = seconds(policy.analysis.timeout)
    left = 1.0 - mirror.ANALYSIS_PART - mirror.AGREEMENT_PART if policy.mirror else 1.0
    return Settings(
        false_alarm=policy.analysis.false_alarm * left,
        min_requests=policy.analysis.min_requests,
        timeout=math.inf if subject.watching else timeout,
        patience=0.0 if subject.known_good else timeout * PATIENCE_PART,
    )


def unreadable(status: TransformerDeploymentStatus, now: float) -> AnalysisStatus | None:
    """The record that drops a memory which can't be read, so that the analysis starts anew."""
    return status.analysis and status.analysis.model_copy(update={"state": {}, "at": timestamp(now)})


def _look(
    wanted: Sequence[Objective],
    subject: _Subject,
    since_start: Windows | None,
    since_step: Windows | None,
    now: float,
) -> Look:
    if since_start is None or since_step is None:
        return Look({}, subject.weight, subject.elapsed, data_age=None)
    pair = (subject.revision, subject.beside)
    whole = tuple(window_of(since_start, revision) for revision in pair)
    step = tuple(window_of(since_step, revision) for revision in pair)
    by_name = {objective.name: both(objective, (whole[0], whole[1]), (step[0], step[1])) for objective in wanted}
    return Look(by_name, subject.weight, subject.elapsed, data_age=max(0.0, now - since_start.now))


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
