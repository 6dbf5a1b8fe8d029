"""How a rollout goes on: from the state in status and what was seen, to the next state and the changes worth telling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from tapchanger_operator.api import reasons
from tapchanger_operator.api.analysis import MirrorStatus
from tapchanger_operator.api.base import seconds, timestamp, unix
from tapchanger_operator.api.rollout import RolloutSpec
from tapchanger_operator.api.status import CanaryStatus, HistoryEntry, RevisionStatus
from tapchanger_operator.decide import moves, orders
from tapchanger_operator.decide.state import Change, Judgement, Outcome, State, Target
from tapchanger_operator.snapshot import Servers, Steering

SETTLE_SECONDS: Final = 3.0
"""How long a canary's servers must have been available before traffic comes: every router has resolved them by then."""
READY_DEADLINE_SECONDS: Final = 600.0
"""How long a canary's servers may take to become ready."""
MOST_SUSPICIONS: Final = 3
"""How often one promotion is put to the test again: a revision that is no worse than its predecessor stays then."""
COMPARE_SECONDS: Final = 60.0
"""How far back the requests go by which a suspect passes."""
HISTORY_KEPT: Final = 20

Event = Literal["Started", "Promoted", "RolledBack", "Suspected", "Withdrawn", "Retried"]
_EVENTS: Final[Mapping[str, Event]] = {
    reasons.CANARY_STARTING: "Started",
    reasons.PROMOTED: "Promoted",
    reasons.ROLLED_BACK: "RolledBack",
    reasons.SUSPECTED: "Suspected",
    reasons.SUPERSEDED: "Withdrawn",
    reasons.RETRIED: "Retried",
}


@dataclass(frozen=True)
class Seen:
    """What a pass decides by.

    `target` is None while it is not known what the spec asks for (inspection or build under way): a canary then goes on
    being judged and may be rolled back, but it is not moved on. `servers` holds what was seen, by revision. `judgement`
    is about the canary, None while it gets no traffic; `watch` is about the stable revision after its promotion.
    """

    target: Target | None
    servers: Mapping[str, Servers]
    judgement: Judgement | None = None
    watch: Judgement | None = None
    steering: Steering = field(default_factory=Steering)


def advance(policy: RolloutSpec, state: State, seen: Seen, now: float) -> Outcome:
    """The next state of a rollout at `now` (Unix seconds)."""
    ordered = orders.carry_out(policy, _expire(state, now), seen.steering, seen.servers, now)
    if any(change.reason != reasons.ORDER_REFUSED for change in ordered.changes):
        seen = replace(seen, judgement=None, watch=None)  # they are about what was before the order
    outcome = _serve(policy, _held(ordered.state, seen.steering, now), seen, now)
    changes = (*ordered.changes, *outcome.changes)
    return Outcome(_count(_remembered(outcome.state, changes, now), seen.servers, now), changes)


def watched(policy: RolloutSpec, state: State) -> bool:
    """Whether the stable revision is being watched after its promotion."""
    previous = state.previous
    return (
        previous is not None
        and state.canary is None
        and seconds(policy.watch) > 0
        and previous.suspicions < MOST_SUSPICIONS
    )


def _serve(policy: RolloutSpec, state: State, seen: Seen, now: float) -> Outcome:
    target, judgement = seen.target, seen.judgement
    if state.canary and state.canary.step >= 0 and _runs_nowhere(seen.servers.get(state.canary.revision, Servers())):
        message = str(seen.servers[state.canary.revision].trouble)
        return moves.reject(state, reasons.ENGINE_INCOMPATIBLE, message, now)
    if state.canary and judgement and judgement.result == "Fail":
        return moves.reject(state, judgement.reason, judgement.message, now, first_bad=judgement.first_bad)
    if _is_suspect(policy, state, seen) and state.stable and state.previous and seen.watch:
        return moves.suspect(policy, state, state.stable, state.previous, seen.watch.message, now)
    if target is None:
        return Outcome(state)
    if state.stable is None or (state.stable.since is None and state.stable.revision != target.revision):
        retired = moves.retire(state, state.stable, now)
        return Outcome(replace(retired, stable=moves.fresh(target), canary=None))
    if state.canary and state.canary.revision != target.revision:
        return moves.withdraw(state, state.canary, target.revision, now)
    if target.revision == state.stable.revision or state.is_rejected(target.revision):
        return Outcome(state)
    warm = state.previous if state.previous and state.previous.revision == target.revision else None
    if warm and seen.servers.get(warm.revision, Servers()).available:
        return moves.promote(policy, state, warm, "its content served before and is still warm", now)
    if state.canary is None:
        return Outcome(state) if seen.steering.pause else moves.start(state, target, state.stable, now)
    if state.canary.step < 0:
        return _start(policy, state, state.canary, seen.servers.get(target.revision, Servers()), judgement, now)
    return _judge(policy, state, state.canary, judgement, now)


def _is_suspect(policy: RolloutSpec, state: State, seen: Seen) -> bool:
    """Whether the promoted revision broke an objective, and its predecessor is there to be compared with."""
    if not watched(policy, state) or state.previous is None or seen.watch is None:
        return False
    return seen.watch.result == "Fail" and seen.servers.get(state.previous.revision, Servers()).available


def _runs_nowhere(servers: Servers) -> bool:
    """Whether nodes are at fault that no server answers: that is no verdict on the answers."""
    return servers.ready == 0 and servers.reason == reasons.ENGINE_INCOMPATIBLE


def _start(
    policy: RolloutSpec,
    state: State,
    canary: CanaryStatus,
    servers: Servers,
    judgement: Judgement | None,
    now: float,
) -> Outcome:
    """Before the first step: wait for the servers, then for the routers to know them, then for copied requests if wanted."""
    if not servers.available:
        if now - unix(canary.created_at) > READY_DEADLINE_SECONDS:
            waited = f"{READY_DEADLINE_SECONDS / 60:.0f} minutes"
            message = f"its servers were not ready after {waited}: {servers.trouble or 'no reason known'}"
            reason = reasons.ENGINE_INCOMPATIBLE if _runs_nowhere(servers) else reasons.CANARY_NOT_READY
            return moves.reject(state, reason, message, now)
        return Outcome(replace(state, canary=canary.model_copy(update={"available_at": None})))
    if canary.available_at is None:
        return Outcome(replace(state, canary=canary.model_copy(update={"available_at": timestamp(now)})))
    if canary.held_at or now - unix(canary.available_at) < SETTLE_SECONDS:
        return Outcome(state)
    if policy.mirror and canary.mirror is None:
        return moves.mirror(policy, state, canary, now)
    if policy.mirror and canary.mirror and canary.mirroring:
        return _mirror(policy, state, canary, canary.mirror, judgement, now)
    return _first_step(policy, state, canary, now)


def _first_step(policy: RolloutSpec, state: State, canary: CanaryStatus, now: float) -> Outcome:
    if not policy.steps:
        return moves.promote(policy, state, canary, "the rollout has no steps", now)
    return moves.to_step(policy, state, canary, 0, now)


def _mirror(
    policy: RolloutSpec,
    state: State,
    canary: CanaryStatus,
    mirror: MirrorStatus,
    judgement: Judgement | None,
    now: float,
) -> Outcome:
    """While requests are copied: on with a Pass, and a decision by the policy where there was none in time."""
    if mirror.percent != policy.mirror:
        changed = mirror.model_copy(update={"percent": policy.mirror})
        return Outcome(replace(state, canary=canary.model_copy(update={"mirror": changed})))
    if judgement is None:
        return Outcome(state)
    if judgement.result == "Pass":
        return _mirrored(policy, state, canary, judgement.message, now)
    timeout = policy.mirror_gate.timeout
    if canary.elapsed(now) < seconds(timeout):
        return Outcome(state)
    return _undecided(policy, state, canary, judgement, timeout, now)


def _mirrored(policy: RolloutSpec, state: State, canary: CanaryStatus, why: str, now: float) -> Outcome:
    told = Change("Normal", reasons.MIRRORED, f"canary {canary.revision} takes its first step after mirroring: {why}")
    outcome = _first_step(policy, state, canary, now)
    return Outcome(outcome.state, (told, *outcome.changes))


def _judge(policy: RolloutSpec, state: State, canary: CanaryStatus, judgement: Judgement | None, now: float) -> Outcome:
    """During a step: on with a Pass, and a decision by the policy where there was none in time."""
    if judgement is None or canary.step_started_at is None or canary.held_at:
        return Outcome(state)
    if canary.suspicions:
        return _compare(policy, state, canary, judgement, now)
    elapsed, step = canary.elapsed(now), canary.step
    if step < len(policy.steps) and policy.steps[step].weight != canary.weight:
        return moves.to_step(policy, state, canary, step, now)
    if judgement.result == "Pass":
        hold = seconds(policy.steps[step].hold) if step < len(policy.steps) else 0.0
        return moves.step_on(policy, state, canary, judgement.message, now) if elapsed >= hold else Outcome(state)
    if elapsed < seconds(policy.analysis.timeout):
        return Outcome(state)
    return _undecided(policy, state, canary, judgement, policy.analysis.timeout, now)


def _undecided(
    policy: RolloutSpec, state: State, canary: CanaryStatus, judgement: Judgement, timeout: str, now: float
) -> Outcome:
    """What the policy says where there was no decision in time."""
    if policy.analysis.on_inconclusive == "Promote":
        why = f"undecided in time, and onInconclusive is Promote: {judgement.message}"
        if canary.mirroring:
            return _mirrored(policy, state, canary, why, now)
        return moves.step_on(policy, state, canary, why, now)
    if policy.analysis.on_inconclusive == "Rollback":
        why = f"undecided in time, and onInconclusive is Rollback: {judgement.message}"
        return moves.reject(state, judgement.reason, why, now)
    if canary.paused:
        return Outcome(state)
    paused = replace(state, canary=canary.model_copy(update={"paused": True}))
    late = f"undecided after {timeout}: {judgement.message}"
    where = "with copied requests" if canary.mirroring else f"at {canary.weight} %"
    message = f"canary {canary.revision} waits {where}: {late}"
    return Outcome(paused, (Change("Warning", reasons.CANARY_PAUSED, message),))


def _compare(policy: RolloutSpec, state: State, canary: CanaryStatus, judgement: Judgement, now: float) -> Outcome:
    """A suspect passes by what it did lately, since what made it suspect may be over; it was good enough once, so that it
    takes over again where nothing shows in time that it is worse than its predecessor.
    """
    if judgement.result == "Pass":
        return moves.promote(policy, state, canary, judgement.message, now)
    if now - unix(canary.since or canary.created_at) >= seconds(policy.analysis.timeout):
        beside = state.stable.revision if state.stable else "its predecessor"
        why = f"not shown worse than {beside} in {policy.analysis.timeout}: {judgement.message}"
        if policy.analysis.on_inconclusive == "Rollback":
            return moves.reject(state, judgement.reason, f"{why}; onInconclusive is Rollback", now)
        return moves.promote(policy, state, canary, why, now)
    if canary.elapsed(now) < COMPARE_SECONDS:
        return Outcome(state)
    again = canary.model_copy(update={"step_started_at": timestamp(now), "held_seconds": 0.0})
    return Outcome(replace(state, canary=again))


def _held(state: State, steering: Steering, now: float) -> State:
    """Stops the canary's clock while a person holds it."""
    canary = state.canary
    if canary is None or (steering.pause is not None) == (canary.held_at is not None):
        return state
    if steering.pause:
        return replace(state, canary=canary.model_copy(update={"held_at": timestamp(now)}))
    held = canary.held_seconds + (now - unix(canary.held_at) if canary.held_at else 0.0)
    return replace(state, canary=canary.model_copy(update={"held_at": None, "held_seconds": round(held, 3)}))


def _expire(state: State, now: float) -> State:
    """Lets go of what has waited long enough."""
    kept = tuple(other for other in state.retiring if unix(other.until) > now)
    state = replace(state, retiring=kept)
    if state.previous and unix(state.previous.until) <= now:
        state = replace(moves.retire(state, state.previous, now), previous=None)
    return state


def _remembered(state: State, changes: tuple[Change, ...], now: float) -> State:
    """Writes changes of who serves into the history."""
    entries = [
        HistoryEntry(
            at=timestamp(now),
            event=_EVENTS[change.reason],
            revision=change.revision.revision,
            uri=change.revision.uri,
            by=change.by,
            message=change.message,
        )
        for change in changes
        if change.revision and change.reason in _EVENTS
    ]
    return replace(state, history=(*state.history, *entries)[-HISTORY_KEPT:]) if entries else state


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
