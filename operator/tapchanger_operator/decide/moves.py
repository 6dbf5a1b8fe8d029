"""The moves of a rollout: each takes a state to the next and says what changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tapchanger_operator.api import reasons
from tapchanger_operator.api.analysis import MirrorStatus
from tapchanger_operator.api.base import seconds, timestamp
from tapchanger_operator.api.rollout import RolloutSpec
from tapchanger_operator.api.status import CanaryStatus, PreviousStatus, Rejection, RetiringStatus, RevisionStatus
from tapchanger_operator.decide.state import Change, Outcome, State, Target

RETIRE_SECONDS: Final = 10.0
"""How long a revision without traffic is kept: every router has been told by then."""
REJECTED_KEPT: Final = 10
SUSPECT_WEIGHT: Final = 50
"""Most that a suspected revision gets while it is compared with its predecessor."""


def start(state: State, target: Target, beside: RevisionStatus, now: float) -> Outcome:
    """A canary of `target` beside the stable revision; its servers are made before it gets traffic."""
    canary = CanaryStatus(**fresh(target).model_dump(), created_at=timestamp(now))
    revived = tuple(other for other in state.retiring if other.revision != target.revision)
    message = f"revision {target.revision} ({target.uri}) starts as a canary beside {beside.revision}"
    change = Change("Normal", reasons.CANARY_STARTING, message, canary)
    return Outcome(replace(state, canary=canary, retiring=revived), (change,))


def mirror(policy: RolloutSpec, state: State, canary: CanaryStatus, now: float) -> Outcome:
    """Requests are copied to the canary from now on."""
    begun = canary.model_copy(
        update={"mirror": MirrorStatus(percent=policy.mirror, since=timestamp(now)), "held_seconds": 0.0}
    )
    message = f"{policy.mirror} % of the requests are copied to canary {canary.revision}, whose answers are compared"
    return Outcome(replace(state, canary=begun), (Change("Normal", reasons.CANARY_MIRRORING, message),))


def withdraw(state: State, canary: CanaryStatus, wanted: str, now: float) -> Outcome:
    """The spec asks for other content: the canary goes, undecided."""
    message = f"canary {canary.revision} was withdrawn, since the spec now asks for {wanted}"
    withdrawn = replace(retire(state, canary, now), canary=None)
    return Outcome(withdrawn, (Change("Normal", reasons.SUPERSEDED, message, canary),))


def step_on(policy: RolloutSpec, state: State, canary: CanaryStatus, why: str, now: float, by: str = "") -> Outcome:
    """The next step, or the promotion after the last."""
    if canary.step + 1 < len(policy.steps) and not canary.suspicions:
        return to_step(policy, state, canary, canary.step + 1, now)
    return promote(policy, state, canary, why, now, by)


def to_step(policy: RolloutSpec, state: State, canary: CanaryStatus, step: int, now: float) -> Outcome:
    """The canary gets the share of step `step` (counted from 0)."""
    weight = policy.steps[step].weight
    mirrored = canary.mirror and canary.mirror.model_copy(update={"until": canary.mirror.until or timestamp(now)})
    moved = canary.model_copy(
        update={
            "mirror": mirrored,
            "step": step,
            "weight": weight,
            "step_started_at": timestamp(now),
            "since": canary.since or timestamp(now),
            "paused": False,
            "held_at": timestamp(now) if canary.held_at else None,
            "held_seconds": 0.0,
        }
    )
    message = f"canary {canary.revision} gets {weight} % (step {step + 1} of {len(policy.steps)})"
    return Outcome(replace(state, canary=moved), (Change("Normal", reasons.CANARY_STEP, message),))


def promote(policy: RolloutSpec, state: State, winner: RevisionStatus, why: str, now: float, by: str = "") -> Outcome:
    """All requests go to `winner`; who served before stays warm for the watch."""
    stable = bare(winner).model_copy(update={"weight": 100, "since": timestamp(now)})
    message = f"revision {winner.revision} ({winner.uri}) serves all requests: {why}"
    old = state.stable
    retired = (
        state
        if state.previous is None or state.previous.revision == winner.revision
        else retire(state, state.previous, now)
    )
    if retired.canary and retired.canary.revision != winner.revision:
        retired = retire(retired, retired.canary, now)
    previous = None
    if old is not None:
        previous = PreviousStatus(
            **old.model_copy(update={"weight": 0}).model_dump(),
            until=timestamp(now + max(seconds(policy.watch), RETIRE_SECONDS)),
            suspicions=winner.suspicions if isinstance(winner, CanaryStatus) else 0,
        )
    change = Change("Normal", reasons.PROMOTED, message, stable, by)
    return Outcome(replace(retired, stable=stable, canary=None, previous=previous), (change,))


def suspect(
    policy: RolloutSpec, state: State, stable: RevisionStatus, previous: PreviousStatus, why: str, now: float
) -> Outcome:
    """A promoted revision broke an objective: it becomes a canary again, beside its predecessor, to be compared with it.

    Only a comparison at the same time tells a revision that is bad from a load that is bad for every revision.
    """
    last = len(policy.steps) - 1
    weight = min(SUSPECT_WEIGHT, policy.steps[last].weight) if policy.steps else SUSPECT_WEIGHT
    time = timestamp(now)
    canary = CanaryStatus(
        **bare(stable).model_copy(update={"weight": weight, "since": time}).model_dump(),
        step=max(last, 0),
        created_at=time,
        available_at=time,
        step_started_at=time,
        suspicions=previous.suspicions + 1,
    )
    message = f"{stable.revision} is suspected, {previous.revision} gets {100 - weight} % again to compare: {why}"
    after = replace(state, stable=bare(previous), canary=canary, previous=None)
    return Outcome(after, (Change("Warning", reasons.SUSPECTED, message, canary),))


def reject(
    state: State, reason: str, message: str, now: float, *, first_bad: float | None = None, by: str = ""
) -> Outcome:
    """The canary gets nothing more, and its content is remembered as rejected. Without a canary nothing happens."""
    canary = state.canary
    if canary is None:
        return Outcome(state)
    rejection = Rejection(
        revision=canary.revision,
        build=canary.build,
        uri=canary.uri,
        at=timestamp(now),
        reason=reason,
        message=message,
        first_bad_at=timestamp(first_bad) if first_bad is not None else None,
    )
    kept = (*state.rejected, rejection)[-REJECTED_KEPT:]
    after = replace(retire(state, canary, now), canary=None, rejected=kept)
    stable = state.stable.revision if state.stable else "nothing"
    at = f"at {canary.weight} %" if canary.weight else "before its first step"
    text = f"canary {canary.revision} ({canary.uri}) was rolled back {at}, {stable} serves all requests: {message}"
    return Outcome(after, (Change("Warning", reasons.ROLLED_BACK, text, canary, by),))


def retire(state: State, revision: RevisionStatus | None, now: float) -> State:
    """Takes `revision` out of the traffic and keeps its servers until every router knows."""
    if revision is None:
        return state
    base = bare(revision).model_dump() | {"weight": 0}
    leaving = RetiringStatus(**base, until=timestamp(now + RETIRE_SECONDS))
    others = tuple(other for other in state.retiring if other.revision != revision.revision)
    return replace(state, retiring=(*others, leaving))


def bare(revision: RevisionStatus) -> RevisionStatus:
    """`revision` without what it is as a canary or a predecessor."""
    return RevisionStatus(**revision.model_dump(include=set(RevisionStatus.model_fields)))


def fresh(target: Target) -> RevisionStatus:
    """A revision of which nothing has been seen yet."""
    return RevisionStatus(revision=target.revision, build=target.build, uri=target.uri)
