"""What is told of an experiment: in the conditions of the deployment, and in its sentence."""

from __future__ import annotations

from collections.abc import Sequence

from tapchanger_operator.api import reasons
from tapchanger_operator.api.status import ArmStatus, Condition
from tapchanger_operator.decide.state import State
from tapchanger_operator.status.conditions import condition

_REASONS = {
    "Running": reasons.EXPERIMENT_RUNNING,
    "Winner": reasons.EXPERIMENT_WINNER,
    "NoDifference": reasons.EXPERIMENT_NO_DIFFERENCE,
    "Inconclusive": reasons.EXPERIMENT_INCONCLUSIVE,
}


def amended(parts: Sequence[Condition], state: State) -> list[Condition]:
    """The conditions with what the variants add: one that starts is progress, one that can't is a stall.

    What the base spec's own content does comes first; a variant is told of where that is at rest.
    """
    if not state.arms:
        return list(parts)
    stuck = [arm for arm in state.arms if arm.stalled]
    under_way = [arm for arm in state.arms if arm.reason and not arm.stalled]
    by_type = {part.type: part for part in parts}
    if stuck and by_type[reasons.STALLED].status != "True":
        by_type[reasons.STALLED] = condition(reasons.STALLED, "True", stuck[0].reason, _line(stuck[0]))
    if under_way and by_type[reasons.PROGRESSING].status != "True":
        first = under_way[0]
        by_type[reasons.PROGRESSING] = condition(reasons.PROGRESSING, "True", first.reason, _line(first))
    experiment = state.experiment
    if experiment:
        status = "True" if experiment.verdict == "Winner" else "Unknown"
        if experiment.verdict == "NoDifference":
            status = "False"
        by_type[reasons.EXPERIMENT] = condition(
            reasons.EXPERIMENT,
            status,  # type: ignore[arg-type]
            _REASONS[experiment.verdict],
            experiment.message,
        )
    return [reworded(part, state) for part in by_type.values()]


def told(sentence: str, state: State) -> str:
    """The deployment's sentence with what is to be said of its variants."""
    experiment = state.experiment
    waiting = [arm for arm in state.arms if arm.message]
    if waiting:
        return f"{_not_all(sentence, state)}; {_line(waiting[0])}"
    if experiment is None or not state.arms:
        return sentence
    shares = ", ".join(f"{arm.name} {arm.weight} %" for arm in state.arms)
    return f"{_not_all(sentence, state)}; experiment ({shares}): {experiment.message}"


def reworded(part: Condition, state: State) -> Condition:
    """A condition that does not say of the base spec's revision that it serves everyone."""
    return part.model_copy(update={"message": _not_all(part.message, state)})


def _line(arm: ArmStatus) -> str:
    return f"variant {arm.name}: {arm.message}"


def _not_all(sentence: str, state: State) -> str:
    """Beside variants the base spec's revision serves its own arm only."""
    return sentence.replace("serves all requests", "serves control") if state.experiment else sentence
