"""What a pass decides, from all that it saw."""

from __future__ import annotations

import logging

from tapchanger_operator.api.analysis import AnalysisStatus
from tapchanger_operator.api.status import TransformerDeploymentStatus
from tapchanger_operator.decide import afterwards, arms, judge, rollout, trial
from tapchanger_operator.decide.state import Outcome, State, Target
from tapchanger_operator.resolve.resolution import Resolution
from tapchanger_operator.snapshot import Silence, Snapshot

log = logging.getLogger(__name__)


def decide(snapshot: Snapshot, resolution: Resolution) -> tuple[Outcome, AnalysisStatus | None]:
    """The next state of the rollout, and the record of the analysis."""
    status = snapshot.status
    watching = snapshot.watch_windows is not None
    try:
        mirrored = _judge_mirror(snapshot)
        status = _with_figures(status, mirrored)
        if mirrored:
            judged: judge.Judged | None = mirrored.judged
        else:
            judged = _judge_stable(snapshot) if watching else _judge_canary(snapshot)
        analysis = judged.record if judged else status.analysis
    except ValueError as problem:
        log.warning("the analysis starts anew", extra={"deployment": snapshot.owner.name, "why": str(problem)})
        judged, analysis = None, judge.unreadable(status, snapshot.now)
    judgement = judged.judgement if judged else None
    content = resolution.content
    target = Target(content.revision, content.build, content.uri) if content else None
    seen = rollout.Seen(
        target=target,
        servers=snapshot.servers,
        judgement=None if watching else judgement,
        watch=judgement if watching else None,
        steering=snapshot.steering,
    )
    policy, now = snapshot.spec.rollout, snapshot.now
    outcome = rollout.advance(policy, arms.hand_over(policy, State.of(status), target, now), seen, now)
    outcome = trial.follow(
        snapshot.spec,
        resolution,
        outcome,
        servers=snapshot.servers,
        windows=snapshot.experiment_windows,
        now=now,
        held=snapshot.steering.pause is not None,
    )
    windows = snapshot.blame_windows
    if windows is not None and not isinstance(windows, Silence):
        outcome, analysis = afterwards.explain(snapshot.spec, status, outcome, analysis, windows)
    return outcome, analysis


def _judge_canary(snapshot: Snapshot) -> judge.Judged | None:
    whole, step = snapshot.canary_windows, snapshot.step_windows
    silence = next((windows.why for windows in (whole, step) if isinstance(windows, Silence)), None)
    return judge.judge(
        snapshot.spec,
        snapshot.status,
        None if isinstance(whole, Silence) else whole,
        None if isinstance(step, Silence) else step,
        silence,
        snapshot.now,
    )


def _judge_mirror(snapshot: Snapshot) -> judge.Mirrored | None:
    windows = snapshot.mirror_windows
    if isinstance(windows, Silence):
        return judge.judge_mirror(snapshot.spec, snapshot.status, None, windows.why, snapshot.now)
    return judge.judge_mirror(snapshot.spec, snapshot.status, windows, None, snapshot.now)


def _with_figures(status: TransformerDeploymentStatus, mirrored: judge.Mirrored | None) -> TransformerDeploymentStatus:
    """The status that knows what was seen of the copied requests."""
    if mirrored is None or status.canary is None:
        return status
    return status.model_copy(update={"canary": status.canary.model_copy(update={"mirror": mirrored.figures})})


def _judge_stable(snapshot: Snapshot) -> judge.Judged | None:
    windows = snapshot.watch_windows
    if isinstance(windows, Silence):
        return judge.judge_watch(snapshot.spec, snapshot.status, None, windows.why, snapshot.now)
    return judge.judge_watch(snapshot.spec, snapshot.status, windows, None, snapshot.now)
