"""How a rollout goes on: from the state in status and what was seen, to the next state and the changes worth telling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from tapchanger_operator.api import reasons
from tapchanger_operator.api.base import seconds, timestamp, unix
from tapchanger_operator.api.spec import RolloutSpec
from tapchanger_operator.api.status import (
    CanaryStatus,
    PreviousStatus,
    Rejection,
    RetiringStatus,
    RevisionStatus,
)
from tapchanger_operator.decide.state import Change, Judgement, Outcome, State, Target
from tapchanger_operator.snapshot import Servers

SETTLE_SECONDS: Final = 3.0
"""How long a canary's servers must have been available before traffic comes: every router has resolved them by then."""
RETIRE_SECONDS: Final = 10.0
"""How long a revision without traffic is kept: every router has been told by then."""
READY_DEADLINE_SECONDS: Final = 600.0
"""How long a canary's servers may take to become ready."""
REJECTED_KEPT: Final = 10


def advance(
    policy: RolloutSpec,
    state: State,
    *,
    target: Target | None,
    servers: Mapping[str, Servers],
    judgement: Judgement | None,
    now: float,
) -> Outcome:
    """The next state of a rollout.

    `target` is None while it is not known what the spec asks for (inspection or build under way): a canary then goes on being
    judged and may be rolled back, but it is not moved on. `servers` holds what was seen, by revision. `judgement` is about the
    canary in `state`; None means that it gets no traffic yet.
    """
    outcome = _serve(policy, _expire(state, now), target, servers, judgement, now)
    return replace(outcome, state=_count(outcome.state, servers, now))


def _serve(
    policy: RolloutSpec,
    state: State,
    target: Target | None,
    servers: Mapping[str, Servers],
    judgement: Judgement | None,
    now: float,
) -> Outcome:
    if state.canary and judgement and judgement.result == "Fail":
        return _reject(state, judgement.reason, judgement.message, now, judgement.first_bad)
    if target is None:
        return Outcome(state)
    if state.stable is None or (state.stable.since is None and state.stable.revision != target.revision):
        retired = _retire(state, state.stable, now)
        return Outcome(replace(retired, stable=_fresh(target), canary=None))
    if state.canary and state.canary.revision != target.revision:
        message = f"canary {state.canary.revision} was withdrawn, since the spec now asks for {target.revision}"
        withdrawn = replace(_retire(state, state.canary, now), canary=None)
        return Outcome(withdrawn, (Change("Normal", reasons.SUPERSEDED, message),))
    if target.revision == state.stable.revision or state.is_rejected(target.revision):
        return Outcome(state)
    warm = state.previous if state.previous and state.previous.revision == target.revision else None
    if warm and servers.get(warm.revision, Servers()).available:
        return _promote(policy, state, warm, "its content served before and is still warm", now)
    if state.canary is None:
        canary = CanaryStatus(**_fresh(target).model_dump(), created_at=timestamp(now))
        revived = tuple(other for other in state.retiring if other.revision != target.revision)
        message = f"revision {target.revision} ({target.uri}) starts as a canary beside {state.stable.revision}"
        return Outcome(
            replace(state, canary=canary, retiring=revived), (Change("Normal", reasons.CANARY_STARTING, message),)
        )
    if state.canary.step < 0:
        return _start(policy, state, state.canary, servers.get(target.revision, Servers()), now)
    return _judge(policy, state, state.canary, judgement, now)


def _start(policy: RolloutSpec, state: State, canary: CanaryStatus, seen: Servers, now: float) -> Outcome:
    """Before the first step: wait for the servers, then for the routers to know them."""
    if not seen.available:
        if now - unix(canary.created_at) > READY_DEADLINE_SECONDS:
            waited = f"{READY_DEADLINE_SECONDS / 60:.0f} minutes"
            message = f"its servers were not ready after {waited}: {seen.trouble or 'no reason known'}"
            return _reject(state, reasons.CANARY_NOT_READY, message, now)
        return Outcome(replace(state, canary=canary.model_copy(update={"available_at": None})))
    if canary.available_at is None:
        return Outcome(replace(state, canary=canary.model_copy(update={"available_at": timestamp(now)})))
    if now - unix(canary.available_at) < SETTLE_SECONDS:
        return Outcome(state)
    if not policy.steps:
        return _promote(policy, state, canary, "the rollout has no steps", now)
    return _move(policy, state, canary, 0, now)


def _judge(policy: RolloutSpec, state: State, canary: CanaryStatus, judgement: Judgement | None, now: float) -> Outcome:
    """During a step: on with a Pass, and a decision by the policy where there was none in time."""
    if judgement is None or canary.step_started_at is None:
        return Outcome(state)
    elapsed = now - unix(canary.step_started_at)
    step = canary.step
    if step < len(policy.steps) and policy.steps[step].weight != canary.weight:
        return _move(policy, state, canary, step, now)
    if judgement.result == "Pass":
        hold = seconds(policy.steps[step].hold) if step < len(policy.steps) else 0.0
        return _next(policy, state, canary, judgement.message, now) if elapsed >= hold else Outcome(state)
    if elapsed < seconds(policy.analysis.timeout):
        return Outcome(state)
    if policy.analysis.on_inconclusive == "Promote":
        return _next(
            policy, state, canary, f"undecided in time, and onInconclusive is Promote: {judgement.message}", now
        )
    if policy.analysis.on_inconclusive == "Rollback":
        return _reject(
            state, judgement.reason, f"undecided in time, and onInconclusive is Rollback: {judgement.message}", now
        )
    if canary.paused:
        return Outcome(state)
    paused = replace(state, canary=canary.model_copy(update={"paused": True}))
    late = f"undecided after {policy.analysis.timeout}: {judgement.message}"
    message = f"canary {canary.revision} waits at {canary.weight} %: {late}"
    return Outcome(paused, (Change("Warning", reasons.CANARY_PAUSED, message),))


def _next(policy: RolloutSpec, state: State, canary: CanaryStatus, why: str, now: float) -> Outcome:
    if canary.step + 1 < len(policy.steps):
        return _move(policy, state, canary, canary.step + 1, now)
    return _promote(policy, state, canary, why, now)


def _move(policy: RolloutSpec, state: State, canary: CanaryStatus, step: int, now: float) -> Outcome:
    weight = policy.steps[step].weight
    moved = canary.model_copy(
        update={
            "step": step,
            "weight": weight,
            "step_started_at": timestamp(now),
            "since": canary.since or timestamp(now),
            "paused": False,
        }
    )
    message = f"canary {canary.revision} gets {weight} % (step {step + 1} of {len(policy.steps)})"
    return Outcome(replace(state, canary=moved), (Change("Normal", reasons.CANARY_STEP, message),))


def _promote(policy: RolloutSpec, state: State, winner: RevisionStatus, why: str, now: float) -> Outcome:
    stable = RevisionStatus(**winner.model_dump(include=set(RevisionStatus.model_fields)))
    stable = stable.model_copy(update={"weight": 100, "since": timestamp(now)})
    changes = (
        Change("Normal", reasons.PROMOTED, f"revision {winner.revision} ({winner.uri}) serves all requests: {why}"),
    )
    old = state.stable
    retired = (
        state
        if state.previous is None or state.previous.revision == winner.revision
        else _retire(state, state.previous, now)
    )
    if retired.canary and retired.canary.revision != winner.revision:
        retired = _retire(retired, retired.canary, now)
    previous = None
    if old is not None:
        until = timestamp(now + max(seconds(policy.watch), RETIRE_SECONDS))
        previous = PreviousStatus(**old.model_copy(update={"weight": 0}).model_dump(), until=until)
    return Outcome(replace(retired, stable=stable, canary=None, previous=previous), changes)


def _reject(state: State, reason: str, message: str, now: float, first_bad: float | None = None) -> Outcome:
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
    after = replace(_retire(state, canary, now), canary=None, rejected=kept)
    stable = state.stable.revision if state.stable else "nothing"
    at = f"canary {canary.revision} ({canary.uri}) was rolled back at {canary.weight} %"
    text = f"{at}, {stable} serves all requests: {message}"
    return Outcome(after, (Change("Warning", reasons.ROLLED_BACK, text),))


def _retire(state: State, revision: RevisionStatus | None, now: float) -> State:
    """Takes `revision` out of the traffic and keeps its servers until every router knows."""
    if revision is None:
        return state
    base = revision.model_dump(include=set(RevisionStatus.model_fields)) | {"weight": 0}
    leaving = RetiringStatus(**base, until=timestamp(now + RETIRE_SECONDS))
    others = tuple(other for other in state.retiring if other.revision != revision.revision)
    return replace(state, retiring=(*others, leaving))


def _expire(state: State, now: float) -> State:
    """Lets go of what has waited long enough."""
    kept = tuple(other for other in state.retiring if unix(other.until) > now)
    state = replace(state, retiring=kept)
    if state.previous and unix(state.previous.until) <= now:
        state = replace(_retire(state, state.previous, now), previous=None)
    return state


def _count(state: State, servers: Mapping[str, Servers], now: float) -> State:
    """Writes into the state what was seen of each revision's servers."""

    def counted(revision: RevisionStatus) -> dict[str, int]:
        seen = servers.get(revision.revision, Servers())
        return {"replicas": seen.replicas, "ready": seen.ready}

    stable = state.stable
    if stable is not None:
        seen = servers.get(stable.revision, Servers())
        since = stable.since or (timestamp(now) if seen.available else None)
        weight = 100 - (state.canary.weight if state.canary else 0)
        stable = stable.model_copy(update={**counted(stable), "since": since, "weight": weight if since else 0})
    return replace(
        state,
        stable=stable,
        canary=state.canary and state.canary.model_copy(update=counted(state.canary)),
        previous=state.previous and state.previous.model_copy(update=counted(state.previous)),
    )


def _fresh(target: Target) -> RevisionStatus:
    return RevisionStatus(revision=target.revision, build=target.build, uri=target.uri)
