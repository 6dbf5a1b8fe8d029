"""One look at an experiment: the arms a step further, then what their figures say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tapchanger_operator.api.spec import TransformerDeploymentSpec
from tapchanger_operator.decide import arms, compare
from tapchanger_operator.decide.state import Outcome
from tapchanger_operator.resolve.resolution import Resolution
from tapchanger_operator.snapshot import Servers, Silence
from tapchanger_serving.contract.windows import Windows


def follow(
    spec: TransformerDeploymentSpec,
    resolution: Resolution,
    outcome: Outcome,
    *,
    servers: Mapping[str, Servers],
    windows: Windows | Silence | None,
    now: float,
    held: bool = False,
) -> Outcome:
    """`outcome` of the base spec's rollout with the experiment's next state.

    A winner keeps all requests while it is not known what a changed spec asks for. While a person holds the rollout
    (`held`), no new content takes over an arm and no winner gets more than it has.
    """
    state = outcome.state
    if arms.winning(state) and resolution.content is None:
        return outcome
    if not spec.variants:
        return replace(outcome, state=arms.released(state, now)) if state.arms else outcome
    state, slots, changes = arms.advance(spec, resolution, state, servers, now, held=held)
    if state.stable is None or state.stable.since is None:
        return Outcome(state, (*outcome.changes, *changes))
    state, found = compare.compare(compare.Seen(spec, slots, windows, now, held), state)
    return Outcome(arms.with_winner(state), (*outcome.changes, *changes, *found))
