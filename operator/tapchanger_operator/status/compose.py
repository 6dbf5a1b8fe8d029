"""The status of a TransformerDeployment, from what was understood, decided and seen."""

from __future__ import annotations

from collections.abc import Sequence

from tapchanger_operator.api import controls, reasons
from tapchanger_operator.api.base import readable
from tapchanger_operator.api.status import (
    Condition,
    SloStatus,
    TargetStatus,
    TransformerDeploymentStatus,
)
from tapchanger_operator.decide import quality
from tapchanger_operator.decide.objectives import window_of
from tapchanger_operator.decide.slo import REASON_BY_SLO, slo_reason
from tapchanger_operator.errors import UserError
from tapchanger_operator.snapshot import Silence
from tapchanger_operator.status import arms, routes
from tapchanger_operator.status.conditions import condition, merged, truth
from tapchanger_operator.status.drift import drift_free
from tapchanger_operator.status.retraining import retraining
from tapchanger_operator.status.sentences import canary_sentence, sentence, why_not_serving
from tapchanger_operator.status.situation import Situation
from tapchanger_serving.contract.messages import engine_title
from tapchanger_serving.contract.windows import Interval


def compose(situation: Situation) -> TransformerDeploymentStatus:
    """The whole status."""
    snapshot, state, resolution = situation.snapshot, situation.state, situation.resolution
    slo, slo_condition = _slo(situation)
    parts = [
        _built(situation),
        _serving(situation),
        _progressing(situation),
        _analysis(situation),
        slo_condition,
        drift_free(situation),
        _stalled(situation),
        *retraining(situation),
    ]
    parts = arms.amended(parts, state)
    ready = arms.reworded(_ready(situation, parts), state)
    conditions = merged(snapshot.status.conditions, [ready, *parts], snapshot.generation, snapshot.now)
    target = None
    if resolution.build:
        target = TargetStatus(build=resolution.build[0], revision=situation.target)
    return TransformerDeploymentStatus(
        observed_generation=snapshot.generation,
        message=arms.told(sentence(situation), state),
        conditions=conditions,
        model=resolution.model or snapshot.status.model,
        hardware=resolution.hardware or snapshot.status.hardware,
        target=target,
        stable=state.stable,
        canary=state.canary,
        previous=state.previous,
        retiring=list(state.retiring),
        analysis=situation.analysis,
        rejected=list(state.rejected),
        controls=list(state.controls),
        history=list(state.history),
        arms=list(state.arms),
        experiment=state.experiment,
        endpoints=routes.endpoints(snapshot),
        slo=slo,
        drift=situation.drift,
        retraining=situation.retraining,
        quality=quality.follow(snapshot.status.quality, state, snapshot.quality_windows, snapshot.now),
    )


def refused_spec(
    status: TransformerDeploymentStatus, problem: UserError, generation: int, now: float
) -> TransformerDeploymentStatus:
    """Status for a spec that can't be read: everything else stays as it was."""
    kept = [c for c in status.conditions if c.type not in (reasons.READY, reasons.STALLED)]
    fresh = [
        condition(reasons.READY, "False", problem.reason, problem.message),
        condition(reasons.STALLED, "True", problem.reason, problem.message),
        *kept,
    ]
    return status.model_copy(
        update={
            "observed_generation": generation,
            "message": problem.message,
            "conditions": merged(status.conditions, fresh, generation, now),
        }
    )


def _built(situation: Situation) -> Condition:
    problem = situation.resolution.problem
    if problem is None and situation.resolution.build:
        seen = situation.snapshot.builds.get(situation.resolution.build[0])
        report = seen.status.report if seen else None
        detail = f"{engine_title(report)}, {report.speedup:.2f} times PyTorch" if report else ""
        return condition(
            reasons.BUILT, "True", reasons.BUILD_READY, f"engine {situation.resolution.build[0]}: {detail}"
        )
    if problem is None:
        return condition(reasons.BUILT, "Unknown", reasons.INSPECTING)
    return condition(
        reasons.BUILT, "False" if isinstance(problem, UserError) else "Unknown", problem.reason, problem.message
    )


def _serving(situation: Situation) -> Condition:
    state = situation.state
    if state.stable is None:
        return condition(reasons.SERVING, "False", reasons.NOT_STARTED, "there is no revision yet")
    servers = situation.stable_servers
    if situation.serving:
        message = f"{servers.ready} of {servers.replicas} servers of {state.stable.revision} are ready"
        return condition(reasons.SERVING, "True", reasons.AVAILABLE, message)
    reason = reasons.UNAVAILABLE if situation.routed else reasons.STARTING
    trouble = routes.trouble(situation.snapshot)
    if trouble and trouble.reason != reasons.UNAVAILABLE:
        reason = trouble.reason
    if servers.reason in (reasons.NO_NODE_FITS, reasons.ENGINE_INCOMPATIBLE):
        reason = servers.reason
    return condition(reasons.SERVING, "False", reason, why_not_serving(situation))


def _progressing(situation: Situation) -> Condition:
    state, problem = situation.state, situation.problem
    if problem:
        return condition(
            reasons.PROGRESSING, truth(not isinstance(problem, UserError)), problem.reason, problem.message
        )
    if situation.held:
        return condition(reasons.PROGRESSING, "False", situation.hold_reason, sentence(situation))
    if state.canary:
        reason = reasons.CANARY_STARTING if state.canary.step < 0 else reasons.CANARY_STEP
        if state.canary.mirroring:
            reason = reasons.CANARY_MIRRORING
        if state.canary.suspicions:
            reason = reasons.SUSPECTED
        if state.canary.paused:
            return condition(reasons.PROGRESSING, "False", reasons.CANARY_PAUSED, canary_sentence(situation))
        return condition(reasons.PROGRESSING, "True", reason, canary_sentence(situation))
    if situation.unfit:
        return condition(reasons.PROGRESSING, "False", reasons.ENGINE_INCOMPATIBLE, situation.unfit)
    if situation.target and state.is_rejected(situation.target):
        return condition(reasons.PROGRESSING, "False", reasons.ROLLED_BACK, sentence(situation))
    if state.stable is None or state.stable.since is None or state.stable.revision != situation.target:
        return condition(reasons.PROGRESSING, "True", reasons.STARTING, sentence(situation))
    return condition(reasons.PROGRESSING, "False", reasons.STABLE, sentence(situation))


def _analysis(situation: Situation) -> Condition:
    analysis = situation.analysis
    if analysis is None:
        return condition(reasons.ANALYSIS, "Unknown", reasons.NO_CANARY, "no canary has been judged")
    status = {"Pass": "True", "Fail": "False"}.get(analysis.verdict, "Unknown")
    message = f"{analysis.revision}: {analysis.message}"
    return condition(reasons.ANALYSIS, status, analysis.reason, message)  # type: ignore[arg-type]


def _stalled(situation: Situation) -> Condition:
    problem, state = situation.problem, situation.state
    if isinstance(problem, UserError):
        return condition(reasons.STALLED, "True", problem.reason, problem.message)
    refusal = routes.refusal(situation.snapshot)
    if refusal:
        return condition(reasons.STALLED, "True", refusal.reason, refusal.message)
    if situation.target and state.is_rejected(situation.target):
        remedy = "change the spec to try again, or back to what serves"
        return condition(reasons.STALLED, "True", reasons.ROLLED_BACK, f"{sentence(situation)}; {remedy}")
    if situation.unfit:
        return condition(reasons.STALLED, "True", reasons.ENGINE_INCOMPATIBLE, situation.unfit)
    if situation.held:
        remedy = f"remove the annotation {controls.PAUSE} to go on"
        if situation.hold_reason == reasons.DRIFT_HOLD:
            remedy = "look at what changed, then set drift.action: Alert to go on"
        return condition(reasons.STALLED, "True", situation.hold_reason, f"{sentence(situation)}; {remedy}")
    if state.canary and state.canary.paused:
        remedy = "send it requests, change the spec, or set rollout.analysis.onInconclusive"
        return condition(reasons.STALLED, "True", reasons.CANARY_PAUSED, f"{canary_sentence(situation)}; {remedy}")
    return condition(reasons.STALLED, "False", reasons.NOT_STALLED)


def _ready(situation: Situation, parts: Sequence[Condition]) -> Condition:
    """Computed from the others: the spec's content serves, and nothing is under way or stuck."""
    by_type = {part.type: part for part in parts}
    stalled, progressing, serving = (by_type[kind] for kind in (reasons.STALLED, reasons.PROGRESSING, reasons.SERVING))
    if stalled.status == "True":
        return condition(reasons.READY, "False", stalled.reason, stalled.message)
    if progressing.status == "True":
        return condition(reasons.READY, "False", progressing.reason, progressing.message)
    if serving.status != "True":
        return condition(reasons.READY, "False", serving.reason, serving.message)
    return condition(reasons.READY, "True", reasons.STABLE, sentence(situation))


def _slo(situation: Situation) -> tuple[SloStatus | None, Condition]:
    windows, stable = situation.snapshot.slo_windows, situation.state.stable
    if stable is None or windows is None:
        return None, condition(reasons.SLO_MET, "Unknown", reasons.NO_REQUESTS, "nothing serves yet")
    if isinstance(windows, Silence):
        return situation.snapshot.status.slo, condition(
            reasons.SLO_MET, "Unknown", reasons.OBSERVER_SILENT, windows.why
        )
    window = window_of(windows, stable.revision)
    try:
        status, message, lines = slo_reason(situation.snapshot.spec, window, windows.skews)
    except LookupError as problem:
        why = str(problem.args[0])
        return situation.snapshot.status.slo, condition(reasons.SLO_MET, "Unknown", reasons.OBSERVER_SILENT, why)
    reason, status = REASON_BY_SLO[status], "Unknown" if status == "Unlabelled" else status
    slo = SloStatus(
        requests=window.requests,
        p50=readable(window.latency.p50),
        p50_interval=_readable_interval(window.latency.p50_interval),
        p90=readable(window.latency.p90),
        p90_interval=_readable_interval(window.latency.p90_interval),
        p99=readable(window.latency.p99),
        p99_interval=_readable_interval(window.latency.p99_interval),
        objectives=lines,
    )
    return slo, condition(reasons.SLO_MET, status, reason, message)  # type: ignore[arg-type]


def _readable_interval(interval: Interval | None) -> str | None:
    """`38ms–47ms`, or the one bound that is known."""
    low, high = (readable(bound) for bound in (interval.low, interval.high)) if interval else (None, None)
    if low and high:
        return f"{low}–{high}"
    if low:
        return f"over {low}"
    return f"under {high}" if high else None
