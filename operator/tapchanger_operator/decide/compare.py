"""From windows of the observer to the figures of an experiment: counted in steps of ten seconds, each once, into status.

Figures of arms are compared over the same time only. So they start anew when an arm's revision or its share changes, and
while a canary of the base spec has part of control's users nothing is counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from tapchanger_operator.api import reasons
from tapchanger_operator.api.arms import ArmFigure, DifferenceStatus, ExperimentStatus, SlotRun
from tapchanger_operator.api.base import seconds, timestamp, unix
from tapchanger_operator.api.experiment import CONTROL, Experiment, Metric
from tapchanger_operator.api.spec import TransformerDeploymentSpec
from tapchanger_operator.api.status import ArmStatus
from tapchanger_operator.decide.bounded import Kind, Tally, interval
from tapchanger_operator.decide.experiment import Finding, Settings, analyse
from tapchanger_operator.decide.state import Change, State
from tapchanger_operator.names import content_hash
from tapchanger_operator.snapshot import Silence
from tapchanger_serving.contract.windows import RevisionWindow, Windows

STEP_SECONDS: Final = 10.0
"""The observer keeps old figures in steps of ten seconds; windows that begin and end with a step count nothing twice."""
LAG_SECONDS: Final = 5.0
"""Routers tell of a request half a second after its end; a step is counted when this much has passed since."""
SETTLE_SECONDS: Final = 10.0
"""How long after a change of who gets what counting begins: every router has been told by then."""
SILENT_SECONDS: Final = 60.0
KINDS: Final[Mapping[Metric, Kind]] = {
    "latency": "binary",
    "availability": "binary",
    "feedback": "score",
    "confidence": "score",
    "accuracy": "binary",
}


def due(experiment: ExperimentStatus | None, now: float) -> tuple[float, float] | None:
    """The time (Unix seconds, since and until) whose requests are to be counted next; None where there is none yet."""
    if experiment is None or experiment.applied:
        return None
    since, until = unix(experiment.counted_until), STEP_SECONDS * math.floor((now - LAG_SECONDS) / STEP_SECONDS)
    return (since, until) if until > since else None


@dataclass(frozen=True)
class Seen:
    """What an experiment is judged by at `now`: its spec, the slots that arms have, and the windows that were due."""

    spec: TransformerDeploymentSpec
    slots: list[SlotRun]
    windows: Windows | Silence | None
    now: float
    held: bool = False

    @property
    def applies(self) -> bool:
        """Whether a winner gets all requests now."""
        return self.experiment.winner == "Auto" and not self.held

    @property
    def experiment(self) -> Experiment:
        """How to compare; the defaults where the spec says nothing."""
        return self.spec.experiment or Experiment()

    @property
    def threshold(self) -> float | None:
        """Seconds of the first latency objective."""
        return next((seconds(o.latency) for o in self.spec.slo.objectives if o.latency is not None), None)


def compare(seen: Seen, state: State) -> tuple[State, tuple[Change, ...]]:
    """The experiment one look further."""
    before, arms = state.experiment, state.arms
    key = content_hash(seen.spec.model_dump(mode="json", include={"model", "engine", "variants", "experiment"}), 16)
    parts = [[arm.name, arm.revision, arm.weight] for arm in arms]
    compared = content_hash([parts, seen.threshold], 16)
    begin = timestamp(STEP_SECONDS * math.ceil((seen.now + SETTLE_SECONDS) / STEP_SECONDS))
    fresh = ExperimentStatus(
        metric=seen.experiment.metric, since=begin, counted_until=begin, key=key, compared=compared, slots=seen.slots
    )
    if before is None or before.key != key or before.compared != compared:
        won = before if before and before.key == key and before.winner else None
        if won:
            kept = {"verdict": won.verdict, "winner": won.winner, "message": won.message, "applied": won.applied}
            fresh = fresh.model_copy(update=kept)
        else:
            fresh = fresh.model_copy(update={"message": _not_begun(seen, arms) or "counting begins"})
        return replace(state, arms=tuple(_cleared(arm) for arm in arms), experiment=fresh), ()
    now = before.model_copy(update={"slots": seen.slots, "metric": seen.experiment.metric})
    if before.applied:
        return replace(state, experiment=now), ()
    if before.winner and seen.applies:
        message = f"{before.message}; it gets all requests until the spec changes"
        applied = now.model_copy(update={"applied": True, "message": message})
        return replace(state, experiment=applied), (Change("Normal", reasons.EXPERIMENT_WINNER, message),)
    if state.canary and state.canary.weight:
        message = f"nothing is counted while {state.canary.revision} is tried on a part of {CONTROL}"
        told = {"counted_until": begin} if now.winner else {"counted_until": begin, "message": message}
        return replace(state, experiment=now.model_copy(update=told)), ()
    if isinstance(seen.windows, Silence):
        return replace(state, experiment=_silent(now, seen.windows, seen.now)), ()
    if seen.windows is None or seen.windows.since != unix(before.counted_until):
        return replace(state, experiment=now), ()
    return _look(seen, state, now, seen.windows)


def _look(seen: Seen, state: State, now: ExperimentStatus, windows: Windows) -> tuple[State, tuple[Change, ...]]:
    by_revision = {window.revision: window for window in windows.revisions}
    nothing = RevisionWindow(revision="")
    try:
        arms = tuple(_added(arm, by_revision.get(arm.revision or "", nothing), seen.threshold) for arm in state.arms)
    except ValueError as problem:
        told = {"counted_until": timestamp(windows.until), "message": f"figures were left out: {problem}"}
        return replace(state, experiment=now.model_copy(update=told)), ()
    tallies = {arm.name: _tally(arm, now.metric) for arm in arms if arm.weight}
    finding = analyse(CONTROL, tallies, _settings(seen.experiment))
    arms = tuple(_told(arm, finding) for arm in arms)
    now = now.model_copy(update={"counted_until": timestamp(windows.until)})
    if now.winner:
        return replace(state, arms=arms, experiment=now), ()
    decided, changes = _decided(seen, now, finding, _not_begun(seen, arms))
    return replace(state, arms=arms, experiment=decided), changes


def _decided(
    seen: Seen, now: ExperimentStatus, finding: Finding, missing: str | None
) -> tuple[ExperimentStatus, tuple[Change, ...]]:
    """The verdict, and what is told of it: a winner only where every arm takes part."""
    verdict, message, winner = finding.verdict, finding.message, finding.winner
    if missing:
        verdict, message, winner = "Running", missing, None
    late = seen.now - unix(now.since) > seconds(seen.experiment.timeout)
    if verdict == "Running" and late:
        verdict, message = "Inconclusive", f"undecided after {seen.experiment.timeout}: {message}"
    applied = winner is not None and seen.applies
    if applied:
        message = f"{message}; it gets all requests until the spec changes"
    told = {"verdict": verdict, "message": message, "winner": winner, "applied": applied}
    change = {"Winner": reasons.EXPERIMENT_WINNER, "NoDifference": reasons.EXPERIMENT_NO_DIFFERENCE}.get(
        verdict, reasons.EXPERIMENT_INCONCLUSIVE
    )
    changes = (Change("Normal", change, message),) if verdict not in ("Running", now.verdict) else ()
    return now.model_copy(update=told), changes


def _silent(now: ExperimentStatus, silence: Silence, at: float) -> ExperimentStatus:
    """Without figures for a while nothing more can be said."""
    if now.winner or at - unix(now.counted_until) < SILENT_SECONDS:
        return now
    message = f"no figures since {now.counted_until}: {silence.why}"
    return now.model_copy(update={"verdict": "Inconclusive", "message": message})


def _not_begun(seen: Seen, arms: tuple[ArmStatus, ...]) -> str | None:
    """Why nothing can be declared, whatever the figures are."""
    waiting = [arm.name for arm in arms if not arm.weight]
    if waiting:
        return f"waits for the servers of {', '.join(waiting)}"
    if seen.experiment.metric == "latency" and seen.threshold is None:
        return "there is no latency objective to compare by; add one to slo.objectives or set experiment.metric"
    return None


def _settings(experiment: Experiment) -> Settings:
    return Settings(KINDS[experiment.metric], experiment.error, experiment.min_effect, experiment.min_requests)


def _cleared(arm: ArmStatus) -> ArmStatus:
    return arm.model_copy(update={"figures": [], "best": None, "difference": None, "requests": 0})


def _tally(arm: ArmStatus, metric: str) -> Tally:
    figure = next((figure for figure in arm.figures if figure.metric == metric), None)
    return Tally(figure.count, figure.total, figure.spread) if figure else Tally()


def outcomes(window: RevisionWindow, metric: Metric, threshold: float | None) -> tuple[int, float, float]:
    """Number, sum and sum of squares of the outcomes of one metric: 1 is good, 0 is bad, scores are between."""
    told = {"feedback": window.feedback, "confidence": window.confidence, "accuracy": window.labels_came}
    if metric in told:
        scores = told[metric]
        return scores.count, scores.total, scores.squares
    bad = window.unavailable
    if metric == "latency":
        over = [count.bad for count in window.over if threshold is not None and abs(count.threshold - threshold) < 1e-9]
        if not over:
            return 0, 0.0, 0.0
        bad = over[0]
    good = float(window.requests - bad)
    return window.requests, good, good


def _added(arm: ArmStatus, window: RevisionWindow, threshold: float | None) -> ArmStatus:
    """The arm with the outcomes of a window counted."""
    figures = [_figure(metric, _tally(arm, metric).plus(*outcomes(window, metric, threshold))) for metric in KINDS]
    return arm.model_copy(update={"figures": figures, "requests": arm.requests + window.requests})


def _figure(metric: Metric, tally: Tally) -> ArmFigure:
    low, high = interval(tally, KINDS[metric])
    return ArmFigure(
        metric=metric,
        count=tally.count,
        mean=None if tally.mean is None else round(tally.mean, 6),
        low=round(low, 6),
        high=round(high, 6),
        total=tally.total,
        spread=tally.spread,
    )


def _told(arm: ArmStatus, finding: Finding) -> ArmStatus:
    figures = finding.arms.get(arm.name)
    if figures is None:
        return arm
    found = figures.difference
    difference = found and DifferenceStatus(
        estimate=round(found.estimate, 6), low=round(found.low, 6), high=round(found.high, 6)
    )
    return arm.model_copy(update={"best": round(figures.best, 3), "difference": difference})
