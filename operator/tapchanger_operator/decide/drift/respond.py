"""What drift causes: a record, a hold, a way back, and an Event when it begins or ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tapchanger_operator import names
from tapchanger_operator.api import reasons
from tapchanger_operator.api.drift import DriftStatus
from tapchanger_operator.decide import moves
from tapchanger_operator.decide.drift.season import next_hours
from tapchanger_operator.decide.drift.watch import only_answers_moved, watch
from tapchanger_operator.decide.state import Change, Outcome
from tapchanger_operator.names import Ref
from tapchanger_operator.snapshot import Given, Servers, Silence, Snapshot
from tapchanger_serving.contract.drift import FEATURES

HELD_BY: Final = "drift.action Hold"


def drifted(record: DriftStatus | None) -> bool:
    """Whether the record says that something moved."""
    return record is not None and record.verdict in FEATURES


def follow(snapshot: Snapshot) -> DriftStatus | None:
    """The record of the stable revision's texts after this look; None where they aren't watched or nothing was seen."""
    stable, known, window = snapshot.status.stable, snapshot.status.drift, snapshot.drift_window
    if not snapshot.spec.drift.enabled or stable is None:
        return None
    if known and known.revision != stable.revision:
        known = None
    if window is None or isinstance(window, Silence):
        return known
    build = snapshot.builds.get(stable.build)
    evaluated = build is not None and build.spec.gates.evaluation is not None
    return watch(
        snapshot.spec.drift,
        known,
        stable.revision,
        window,
        evaluated=evaluated,
        now=snapshot.now,
        kept=_kept(snapshot),
    )


def remembered(snapshot: Snapshot, record: DriftStatus | None) -> Snapshot:
    """With what is to be kept of like hours."""
    kept = None if snapshot.spec.drift.compare.like == "reference" else _kept(snapshot)
    return replace(snapshot, drift_hours=next_hours(snapshot.spec.drift, record, kept) if record else kept)


def _kept(snapshot: Snapshot) -> str | None:
    ref = Ref("ConfigMap", snapshot.owner.namespace, names.drift_hours(snapshot.owner.name))
    found = snapshot.live.get(ref, {}).get("data", {}).get(names.DRIFT_HOURS)
    return None if found is None else str(found)


def hold(snapshot: Snapshot, record: DriftStatus | None) -> Snapshot:
    """With `action: Hold` a rollout waits while something has moved, as if a person held it. A failing canary still goes."""
    steering = snapshot.steering
    if snapshot.spec.drift.action != "Hold" or record is None or not drifted(record) or steering.pause is not None:
        return snapshot
    why = f"traffic has drifted ({record.feature} since {record.since})"
    return replace(snapshot, steering=replace(steering, pause=Given(why, HELD_BY)))


def take_back(snapshot: Snapshot, outcome: Outcome, record: DriftStatus | None) -> Outcome:
    """With `action: Rollback` the previous revision takes over where the answers moved and the texts did not, so that it is the
    model's doing and not the users'. Without a previous revision that is still warm nothing happens.
    """
    state, spec = outcome.state, snapshot.spec
    stable, previous = state.stable, state.previous
    if spec.drift.action != "Rollback" or record is None or not drifted(record):
        return outcome
    if stable is None or previous is None or state.canary or stable.revision != record.revision:
        return outcome
    if not snapshot.servers.get(previous.revision, Servers()).available or not only_answers_moved(spec.drift, record):
        return outcome
    suspected = moves.suspect(spec.rollout, state, stable, previous, record.message, snapshot.now).state
    reason, why = reasons.ANSWERS_DRIFTED, f"its answers changed while the texts did not: {record.message}"
    back = moves.reject(suspected, reason, why, snapshot.now)
    return Outcome(back.state, (*outcome.changes, *back.changes))


def changes(before: DriftStatus | None, after: DriftStatus | None) -> tuple[Change, ...]:
    """An Event where something moved, or the texts are like the reference again."""
    if after is None or (before is not None and before.revision != after.revision and not drifted(after)):
        return ()
    if drifted(after) and (not drifted(before) or (before and before.revision != after.revision)):
        return (Change("Warning", reasons.DRIFTED, after.message),)
    if drifted(before) and after.verdict == "none":
        return (Change("Normal", reasons.DRIFT_OVER, after.message),)
    return ()
