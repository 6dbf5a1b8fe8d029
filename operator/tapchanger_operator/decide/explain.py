"""Verdicts in words: what was seen, what is allowed, and what follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tapchanger_operator.decide.evidence import Counts, Evidence, Look, Objective, ObjectiveCounts, Settings


def impossible(objectives: Sequence[Objective], look: Look, settings: Settings) -> str | None:
    """What is wrong with the input of an analysis and what to do about it; None where it can be true."""
    if not objectives:
        return "slo.objectives is empty, so nothing can be judged; write for example {availability: 0.999}"
    names = [objective.name for objective in objectives]
    if len(set(names)) < len(names):
        return f"slo.objectives names an objective twice ({', '.join(sorted(names))}); leave one of them out"
    for objective in objectives:
        if not 0.0 < objective.target < 1.0:
            return (
                f"objective {objective.name}: target is {objective.target}; write a share between 0 and 1, such as 0.99"
            )
    if not 0.0 < settings.false_alarm < 1.0:
        return f"analysis.falseAlarm is {settings.false_alarm}; write a probability between 0 and 1, such as 0.01"
    for name, seen in look.counts.items():
        for counts in (seen.canary, seen.stable, seen.step_canary, seen.step_stable):
            if not 0 <= counts.bad <= counts.requests:
                return f"objective {name}: the observer counts {counts.bad} bad of {counts.requests}, which can't be"
    return None


def breach(objective: Objective, evidence: Evidence, together: float) -> str:
    """Why a canary fails: the figures of its worst objective, and the e-values of all `together`."""
    return f"{_facts(objective, evidence)}; e-value {number(together)} against {number(evidence.threshold)}"


def shared(objective: Objective, evidence: Evidence) -> str:
    """Why a canary above its budget doesn't fail."""
    return (
        f"{_facts(objective, evidence)}; that breaks the objective, but it is not shown that the canary does worse "
        f"than stable: e-value {number(evidence.stable_e or 0.0)} against {number(evidence.threshold)}"
    )


def silent(look: Look, settings: Settings) -> str:
    """Why nothing can be said of a canary."""
    if look.data_age is None:
        return "the observer gives no data"
    return f"the newest data is {duration(look.data_age)} old, more than {duration(settings.stale_after)}"


def too_few(requests: int, look: Look, settings: Settings) -> str:
    """What a step waits for."""
    if requests < settings.min_requests:
        return f"{requests} of {settings.min_requests} requests seen in this step"
    pace = f"minRequests asks for {settings.min_requests} in {duration(settings.timeout)}"
    return f"{requests} requests seen in {duration(look.elapsed)} of this step; {pace}"


def too_few_labels(objective: Objective, canary: Counts) -> str:
    """What a step waits for that has requests, but labels that come late."""
    where = f" in {objective.slice}" if objective.slice else ""
    return f"{canary.requests} of {objective.min_labels} labelled answers of the canary{where} have come so far"


def undecided(objective: Objective, step: Counts) -> str:
    """Why a step with enough requests is not passed yet."""
    begin = "so far" if objective.labelled else "in this step"
    return (
        f"{begin} {_share(objective, step)}; the objective allows {percent(objective.budget)}, "
        f"and it takes more {'labels' if objective.labelled else 'requests'} to tell"
    )


def met(objectives: Sequence[Objective], counts: Mapping[str, ObjectiveCounts]) -> str:
    """Why a step is passed."""
    parts = [
        f"{_share(objective, counts[objective.name].step_canary)}, {percent(objective.budget)} allowed"
        for objective in objectives
    ]
    return "in this step " + "; ".join(parts)


def number(value: float) -> str:
    """A figure in two or three places: 0.43, 12, 3.1e+05."""
    return f"{value:.2g}" if value < 10.0 or value >= 1e4 else f"{value:.0f}"


def percent(share: float) -> str:
    """A share in percent: 0.1 %, 30 %."""
    return f"{100.0 * share:.3g} %"


def duration(seconds: float) -> str:
    """Seconds in the unit that reads best: 50 ms, 1.5 s, 15 min."""
    if seconds < 1.0:
        return f"{1000.0 * seconds:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 120.0 else f"{seconds / 60.0:.3g} min"


def _facts(objective: Objective, evidence: Evidence) -> str:
    budget = percent(objective.budget)
    beside = _beside(evidence)
    if objective.labelled and evidence.stable_e is not None and not evidence.stable.requests:
        beside = "none of stable's have been labelled"
    return f"{_share(objective, evidence.canary)}; the objective allows {budget}; {beside}"


def _share(objective: Objective, counts: Counts) -> str:
    if objective.labelled:
        where = f" in {objective.slice}" if objective.slice else ""
        return f"{counts.bad} of {counts.requests} labelled answers{where} were wrong ({percent(counts.rate)})"
    if objective.kind == "latency" and objective.threshold_seconds is not None:
        what = f"took longer than {duration(objective.threshold_seconds)}"
    else:
        what = "failed"
    return f"{counts.bad} of {counts.requests} requests {what} ({percent(counts.rate)})"


def _beside(evidence: Evidence) -> str:
    if evidence.stable_e is None:
        return "no stable revision serves beside it to compare with"
    return f"stable has {percent(evidence.stable.rate)}"
