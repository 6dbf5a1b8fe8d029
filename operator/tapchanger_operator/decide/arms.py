"""The arms of an experiment: which revision each has, and who gets which slots. `control` is the base spec's rollout.

A variant's new content takes over its arm as soon as its servers are ready and the routers know them: there is no canary for
it, since the arm is itself a part of the traffic that its owner chose. Until then the arm keeps what it has, and an arm that
never had anything leaves its slots to control.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tapchanger_operator.api import reasons
from tapchanger_operator.api.arms import ArmNext, SlotRun
from tapchanger_operator.api.base import seconds, timestamp, unix
from tapchanger_operator.api.experiment import CONTROL
from tapchanger_operator.api.rollout import RolloutSpec
from tapchanger_operator.api.spec import TransformerDeploymentSpec
from tapchanger_operator.api.status import ArmStatus, PreviousStatus, RetiringStatus
from tapchanger_operator.decide import slots
from tapchanger_operator.decide.moves import RETIRE_SECONDS
from tapchanger_operator.decide.rollout import READY_DEADLINE_SECONDS, SETTLE_SECONDS
from tapchanger_operator.decide.state import Change, State, Target
from tapchanger_operator.errors import UserError
from tapchanger_operator.resolve.resolution import Resolution
from tapchanger_operator.snapshot import Servers

_CANARY: Final = "canary of control"
"""Owner of the slots that control lends to its canary; no arm can have this name."""


@dataclass(frozen=True)
class Leaving:
    """A revision that an arm gives up."""

    revision: str
    build: str
    uri: str


@dataclass(frozen=True)
class Step:
    """An arm's next state, what it gives up and what is worth telling."""

    arm: ArmStatus
    leaving: tuple[Leaving, ...] = ()
    changes: tuple[Change, ...] = ()


def advance(
    spec: TransformerDeploymentSpec,
    resolution: Resolution,
    state: State,
    servers: Mapping[str, Servers],
    now: float,
    *,
    held: bool = False,
) -> tuple[State, list[SlotRun], tuple[Change, ...]]:
    """The arms that the spec asks for, each one step further, and the slots for those that have servers.

    While a person holds the rollout (`held`), no new content takes over an arm.
    """
    control = _control_row(state)
    base = {part.revision for part in (state.stable, state.canary, resolution.content) if part}
    fixed = resolution.content.revision if resolution.content else None
    known = {arm.name: arm for arm in state.arms}
    steps: list[Step] = []
    for variant in spec.variants:
        taken = base | {step.arm.revision for step in steps} | {s.arm.next.revision for s in steps if s.arm.next}
        found = resolution.variants.get(variant.name, Resolution())
        arm = known.get(variant.name, ArmStatus(name=variant.name))
        steps.append(_step(arm, found, taken, fixed, servers, now, held=held))
    gone = [arm for name, arm in known.items() if name not in {CONTROL, *(v.name for v in spec.variants)}]
    leaving = [given_up for step in steps for given_up in step.leaving] + [p for arm in gone for p in _parts(arm)]
    arms = tuple(_counted(step.arm, servers) for step in steps)
    weights = {variant.name: variant.weight for variant in spec.variants}
    previous = (
        tuple(slots.Run(run.arm, run.start, run.end) for run in state.experiment.slots) if state.experiment else ()
    )
    assigned = assign(arms, weights, previous)
    shares = {run.arm: 0 for run in assigned} | {CONTROL: 0}
    for run in assigned:
        shares[run.arm] += run.size // slots.PER_PERCENT
    told = tuple(arm.model_copy(update={"weight": shares.get(arm.name, 0)}) for arm in (control, *arms))
    after = retired(replace(state, arms=told), leaving, now)
    return after, stored(assigned), tuple(change for step in steps for change in step.changes)


def assign(
    arms: Sequence[ArmStatus], weights: Mapping[str, int], previous: Sequence[slots.Run]
) -> tuple[slots.Run, ...]:
    """The slots of every arm that has servers; control has the rest."""
    serving = {arm.name: weights[arm.name] for arm in arms if arm.revision}
    return slots.assign(previous, {CONTROL: 100 - sum(serving.values()), **serving})


def stored(assigned: Iterable[slots.Run]) -> list[SlotRun]:
    """Runs as status has them."""
    return [SlotRun.model_validate({"arm": run.arm, "from": run.start, "to": run.end}) for run in assigned]


def _step(
    arm: ArmStatus,
    found: Resolution,
    taken: set[str | None],
    fixed: str | None,
    servers: Mapping[str, Servers],
    now: float,
    *,
    held: bool,
) -> Step:
    """One arm's next state. `taken` are the revisions of others, `fixed` is the one that control is to have."""
    problem = found.problem
    arm = arm.model_copy(
        update={
            "model": found.model or arm.model,
            "reason": problem.reason if problem else "",
            "message": problem.message if problem else "",
            "stalled": isinstance(problem, UserError),
        }
    )
    if arm.revision in taken:
        arm = arm.model_copy(update={"revision": None, "build": None, "since": None})
    content = found.content
    if content is None:
        return Step(arm)
    wanted = Target(content.revision, content.build, content.uri)
    if wanted.revision in taken:
        message = f"its content is that of another arm ({wanted.revision}); change its model or engine, or remove it"
        same = {"reason": reasons.SAME_CONTENT, "message": message, "stalled": wanted.revision == fixed}
        return Step(arm.model_copy(update={**same, "next": None}), _leaving(arm.next))
    if arm.revision == wanted.revision:
        return Step(arm.model_copy(update={"next": None, "uri": wanted.uri}), _leaving(arm.next))
    if arm.next is None or arm.next.revision != wanted.revision:
        fresh = ArmNext(revision=wanted.revision, build=wanted.build, uri=wanted.uri, created_at=timestamp(now))
        return Step(_waiting(arm, fresh, Servers(), now), _leaving(arm.next))
    return _take_over(arm, arm.next, servers.get(wanted.revision, Servers()), now, held=held)


def _take_over(arm: ArmStatus, coming: ArmNext, seen: Servers, now: float, *, held: bool) -> Step:
    """Waits for the servers, then for the routers to know them."""
    if not seen.available:
        return Step(_waiting(arm, coming.model_copy(update={"available_at": None}), seen, now))
    if coming.available_at is None:
        return Step(_waiting(arm, coming.model_copy(update={"available_at": timestamp(now)}), seen, now))
    if now - unix(coming.available_at) < SETTLE_SECONDS:
        return Step(_waiting(arm, coming, seen, now))
    if held:
        message = f"{coming.revision} is ready and held by the annotation tapchanger.dev/pause"
        return Step(arm.model_copy(update={"reason": reasons.HELD, "message": message, "stalled": False}))
    serving = {"revision": coming.revision, "build": coming.build, "uri": coming.uri, "since": timestamp(now)}
    message = f"arm {arm.name} is served by {coming.revision} ({coming.uri})"
    change = Change("Normal", reasons.ARM_SERVING, message)
    return Step(arm.model_copy(update={**serving, "next": None}), _leaving(arm), (change,))


def _waiting(arm: ArmStatus, coming: ArmNext, seen: Servers, now: float) -> ArmStatus:
    late = now - unix(coming.created_at) > READY_DEADLINE_SECONDS
    trouble = f": {seen.trouble}" if seen.trouble else ""
    message = f"servers of {coming.revision} are starting{trouble}"
    if late and not seen.available:
        message = (
            f"servers of {coming.revision} were not ready after {READY_DEADLINE_SECONDS / 60:.0f} minutes{trouble}"
        )
    told = {"reason": reasons.ARM_STARTING, "message": message, "stalled": late and not seen.available}
    return arm.model_copy(update={**told, "next": coming, "uri": arm.uri or coming.uri})


def _control_row(state: State) -> ArmStatus:
    known = next((arm for arm in state.arms if arm.name == CONTROL), ArmStatus(name=CONTROL))
    if state.stable is None:
        return known
    return known.model_copy(
        update=state.stable.model_dump(include={"revision", "build", "uri", "since", "replicas", "ready"})
    )


def _counted(arm: ArmStatus, servers: Mapping[str, Servers]) -> ArmStatus:
    seen = servers.get(arm.revision or "", Servers())
    return arm.model_copy(update={"replicas": seen.replicas, "ready": seen.ready})


def _parts(arm: ArmStatus) -> tuple[Leaving, ...]:
    return (*_leaving(arm), *_leaving(arm.next))


def _leaving(part: ArmStatus | ArmNext | None) -> tuple[Leaving, ...]:
    return (Leaving(part.revision, part.build or "", part.uri),) if part and part.revision else ()


def retired(state: State, leaving: Sequence[Leaving], now: float) -> State:
    """Keeps the servers of what arms gave up until every router knows, unless someone else has them."""
    parts = [
        state.stable,
        state.canary,
        state.previous,
        *state.retiring,
        *state.arms,
        *(arm.next for arm in state.arms),
    ]
    kept = {part.revision for part in parts if part}
    until = timestamp(now + RETIRE_SECONDS)
    fresh = {
        part.revision: RetiringStatus(revision=part.revision, build=part.build, uri=part.uri, until=until)
        for part in leaving
        if part.revision not in kept
    }
    return replace(state, retiring=(*state.retiring, *fresh.values()))


def hand_over(policy: RolloutSpec, state: State, target: Target | None, now: float) -> State:
    """Where the base spec now asks for the content of a winner that has all requests, it counts as served before.

    It is then promoted at once: its servers are warm, and a canary would take the requests away from it first.
    """
    winner = winning(state)
    if target is None or winner is None or winner.revision != target.revision:
        return state
    if state.stable is None or state.stable.revision == target.revision or state.is_rejected(target.revision):
        return state
    if state.previous and state.previous.revision == target.revision:
        return state
    until = timestamp(now + max(seconds(policy.watch), RETIRE_SECONDS))
    previous = PreviousStatus(revision=target.revision, build=target.build, uri=target.uri, until=until)
    old = state.previous
    state = replace(state, previous=previous)
    return retired(state, [Leaving(old.revision, old.build, old.uri)] if old else [], now)


def winning(state: State) -> ArmStatus | None:
    """The arm that won and was given all requests."""
    experiment = state.experiment
    if experiment is None or not experiment.applied:
        return None
    return next((arm for arm in state.arms if arm.name == experiment.winner), None)


def with_winner(state: State) -> State:
    """The arms with the weights that they really have: all of it is the winner's, where there is one that was given it."""
    winner = winning(state)
    if winner is None:
        return state
    rows = tuple(arm.model_copy(update={"weight": 100 if arm.name == winner.name else 0}) for arm in state.arms)
    return replace(state, arms=rows)


def released(state: State, now: float) -> State:
    """The state without an experiment."""
    leaving = [part for arm in state.arms if arm.name != CONTROL for part in _parts(arm)]
    return retired(replace(state, arms=(), experiment=None), leaving, now)


def routed(state: State) -> tuple[list[tuple[str, int]], list[str]]:
    """Revisions with their numbers of slots, in slot order; and every revision that the routers must know.

    A canary's weight is a part of control's slots, the last ones.
    """
    experiment, stable = state.experiment, state.stable
    if experiment is None or stable is None:
        raise ValueError("without an experiment or a stable revision there are no slots")
    winner = winning(state)
    runs = tuple(slots.Run(winner.name if winner else run.arm, run.start, run.end) for run in experiment.slots)
    if state.canary:
        runs = slots.lend(runs, CONTROL, _CANARY, state.canary.weight)
    revisions = {arm.name: arm.revision or stable.revision for arm in state.arms if arm.name != CONTROL}
    revisions |= {CONTROL: stable.revision, _CANARY: state.canary.revision if state.canary else stable.revision}
    merged = slots.runs([revisions.get(owner, stable.revision) for owner in slots.owners_of(runs)])
    return [(run.arm, run.size) for run in merged], [*state.weights(), *state.revisions()]
