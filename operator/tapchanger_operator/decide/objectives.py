"""The spec's objectives as the statistics take them, and what was counted for each of them."""

from __future__ import annotations

from tapchanger_operator.api.base import seconds
from tapchanger_operator.api.spec import Objective as ObjectiveSpec
from tapchanger_operator.api.spec import TransformerDeploymentSpec
from tapchanger_operator.decide.evidence import Counts, Objective, ObjectiveCounts
from tapchanger_operator.decide.sequential import rate_interval
from tapchanger_serving.contract.windows import RevisionWindow, Windows

LEAST_IN_SLICE = 5
"""Wrong answers that a slice must have to be named."""


def objective_name(objective: ObjectiveSpec) -> str:
    """An objective in words: `99% within 50ms`, `99.9% available`, `90% right`, `80% right in source=tweets`."""
    if objective.latency is not None and objective.target is not None:
        return f"{objective.target * 100:.6g}% within {objective.latency}"
    if objective.accuracy is not None:
        where = f" in {objective.slice}" if objective.slice else ""
        return f"{objective.accuracy * 100:.6g}% right{where}"
    return f"{(objective.availability or 0) * 100:.6g}% available"


def objectives(spec: TransformerDeploymentSpec, *, labelled: bool = True) -> tuple[Objective, ...]:
    """The spec's objectives; without `labelled` those that need no labels."""
    found = []
    for objective in spec.slo.objectives:
        name = objective_name(objective)
        if objective.latency is not None and objective.target is not None:
            found.append(Objective(name, "latency", objective.target, seconds(objective.latency)))
        elif objective.availability is not None:
            found.append(Objective(name, "availability", objective.availability))
        elif objective.accuracy is not None and labelled:
            found.append(
                Objective(
                    name,
                    "accuracy",
                    objective.accuracy,
                    slice=objective.slice,
                    min_labels=objective.fewest_labels,
                )
            )
    return tuple(found)


def window_of(windows: Windows, revision: str) -> RevisionWindow:
    """What was seen of `revision`; an empty window where nothing was."""
    return next((w for w in windows.revisions if w.revision == revision), RevisionWindow(revision=revision))


def counts(objective: Objective, window: RevisionWindow) -> Counts:
    """Requests and bad ones of one objective; of accuracy labelled answers and wrong ones."""
    if objective.kind == "accuracy":
        labels = window.labels
        if objective.slice is None:
            return Counts(labels.labelled, labels.labelled - labels.right)
        part = next((one for one in labels.slices if one.name == objective.slice), None)
        return Counts(part.labelled, part.labelled - part.right) if part else Counts()
    if objective.kind == "availability":
        return Counts(window.requests, window.unavailable)
    over = [c.bad for c in window.over if abs(c.threshold - (objective.threshold_seconds or 0)) < 1e-9]
    if not over and window.requests:
        raise LookupError(f"the observer did not count against {objective.name}")
    return Counts(window.requests, over[0] if over else 0)


def both(
    objective: Objective, whole: tuple[RevisionWindow, RevisionWindow], step: tuple[RevisionWindow, RevisionWindow]
) -> ObjectiveCounts:
    """One objective's counts of canary and stable since the canary began and since its step did.

    Labels come late, and what a model answers doesn't depend on how much traffic it gets: of accuracy all labels since the
    canary began count in every step.
    """
    if objective.kind == "accuracy":
        step = whole
    return ObjectiveCounts(*(counts(objective, window) for window in (*whole, *step)))


def worst_slice(canary: RevisionWindow, stable: RevisionWindow) -> str | None:
    """Where a canary's answers are wrong the most, in words; None where no slice stands out."""
    labels = canary.labels
    overall = labels.right / labels.labelled if labels.labelled else 1.0
    standing = [
        one
        for one in labels.slices
        if one.labelled - one.right >= LEAST_IN_SLICE
        and 1 - rate_interval(one.labelled, one.labelled - one.right)[0] < overall
    ]
    if not standing:
        return None
    worst = max(standing, key=lambda one: (one.labelled - one.right) - one.labelled * (1 - overall))
    beside = next((one for one in stable.labels.slices if one.name == worst.name), None)
    told = f"most of all in {worst.name}, with {worst.right} of {worst.labelled} right"
    return f"{told} (stable: {beside.right} of {beside.labelled})" if beside else told
