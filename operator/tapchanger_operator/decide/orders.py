"""Carries out what people order by annotations: each order once, each with an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from tapchanger_operator.api import controls, reasons
from tapchanger_operator.api.base import timestamp
from tapchanger_operator.api.controls import Command, Order
from tapchanger_operator.api.rollout import RolloutSpec
from tapchanger_operator.api.status import CanaryStatus, ControlStatus
from tapchanger_operator.decide import moves
from tapchanger_operator.decide.state import Change, Outcome, State, Target
from tapchanger_operator.snapshot import Servers, Steering


@dataclass(frozen=True)
class _Scene:
    """What an order is carried out on. `why` is what is told of it: who gave it and why."""

    policy: RolloutSpec
    state: State
    servers: Mapping[str, Servers]
    now: float
    command: Command
    by: str
    why: str

    def canary(self) -> CanaryStatus:
        """The canary that the order names. Raises RefusedError where there is no such canary."""
        canary = self.state.canary
        if canary is None or canary.revision != self.command.revision:
            there = f"the canary is {canary.revision}" if canary else "there is no canary"
            raise RefusedError(f"{self.command.revision} is not the canary: {there}")
        return canary

    def step(self) -> CanaryStatus:
        """The canary at the step that the order names (0: the mirroring). Raises RefusedError where it is at another."""
        canary = self.canary()
        if canary.step + 1 != self.command.step or (canary.step < 0 and not canary.mirroring):
            at = (
                f"step {canary.step + 1}"
                if canary.step >= 0 or canary.mirroring
                else "no step yet: its servers are starting"
            )
            raise RefusedError(f"{canary.revision} is not at step {self.command.step} but at {at}")
        return canary


class RefusedError(Exception):
    """An order that can't be carried out, and why."""


def carry_out(
    policy: RolloutSpec, state: State, steering: Steering, servers: Mapping[str, Servers], now: float
) -> Outcome:
    """The state after the orders that are new. An order whose annotation is gone is forgotten, so that it can be given anew."""
    known = {answer.order: answer for answer in state.controls}
    answers: list[ControlStatus] = []
    changes: list[Change] = []
    for order in controls.ORDERS:
        given = steering.orders.get(order)
        if given is None:
            continue
        if order in known and known[order].value == given.value:
            answers.append(known[order])
            continue
        try:
            command = controls.parse(order, given.value)
            said = f": {command.reason}" if command.reason else ""
            why = f"ordered by {given.by or 'someone'}{said}"
            outcome = _ACTIONS[order](_Scene(policy, state, servers, now, command, given.by, why))
            state, told, done = outcome.state, outcome.changes, True
            message = told[-1].message
        except (ValueError, RefusedError) as problem:
            done, message = False, str(problem)
            told = (Change("Warning", reasons.ORDER_REFUSED, f"{controls.annotation(order)}: {message}", by=given.by),)
        answers.append(
            ControlStatus(order=order, value=given.value, by=given.by, at=timestamp(now), done=done, message=message)
        )
        changes += told
    return Outcome(replace(state, controls=tuple(answers)), tuple(changes))


def _promote(scene: _Scene) -> Outcome:
    canary = scene.canary()
    if not scene.servers.get(canary.revision, Servers()).available or canary.available_at is None:
        raise RefusedError(f"the servers of {canary.revision} are not ready yet")
    return moves.promote(scene.policy, scene.state, canary, scene.why, scene.now, scene.by)


def _skip(scene: _Scene) -> Outcome:
    return moves.step_on(scene.policy, scene.state, scene.step(), f"step skipped, {scene.why}", scene.now, scene.by)


def _resume(scene: _Scene) -> Outcome:
    canary = scene.step()
    if not canary.paused:
        raise RefusedError(f"{canary.revision} is not waiting: its step is still being judged")
    clock: dict[str, object] = {"step_started_at": timestamp(scene.now)}
    what = f"step {canary.step + 1}"
    if canary.mirror and canary.mirroring:
        clock = {"mirror": canary.mirror.model_copy(update={"since": timestamp(scene.now)})}
        what = "the mirroring"
    again = canary.model_copy(update={"paused": False, "held_seconds": 0.0, **clock})
    message = f"{what} of canary {canary.revision} starts anew, {scene.why}"
    return Outcome(replace(scene.state, canary=again), (Change("Normal", reasons.CANARY_STEP, message, by=scene.by),))


def _abort(scene: _Scene) -> Outcome:
    state, stable, previous = scene.state, scene.state.stable, scene.state.previous
    if stable and previous and stable.revision == scene.command.revision:
        if not scene.servers.get(previous.revision, Servers()).available:
            raise RefusedError(f"the servers of {previous.revision} are not ready, so nothing could take over")
        state = replace(moves.retire(state, state.canary, scene.now), canary=None)
        state = moves.suspect(scene.policy, state, stable, previous, scene.why, scene.now).state
    else:
        scene.canary()
    return moves.reject(state, reasons.ABORTED, scene.why, scene.now, by=scene.by)


def _retry(scene: _Scene) -> Outcome:
    state, revision = scene.state, scene.command.revision
    found = next((rejection for rejection in state.rejected if rejection.revision == revision), None)
    if found is None:
        known = ", ".join(rejection.revision for rejection in state.rejected) or "none"
        raise RefusedError(f"{revision} was not rolled back; rolled back were: {known}")
    kept = tuple(rejection for rejection in state.rejected if rejection.revision != revision)
    message = f"revision {revision} ({found.uri}) may be tried again, {scene.why}"
    target = moves.fresh(Target(found.revision, found.build, found.uri))
    return Outcome(replace(state, rejected=kept), (Change("Normal", reasons.RETRIED, message, target, scene.by),))


_ACTIONS: Final[Mapping[Order, Callable[[_Scene], Outcome]]] = {
    "promote": _promote,
    "skip": _skip,
    "resume": _resume,
    "abort": _abort,
    "retry": _retry,
}
