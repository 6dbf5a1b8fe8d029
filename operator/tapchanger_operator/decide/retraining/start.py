"""Whether a run begins now: by a person's order, by drift or by the schedule, and what keeps it from it."""

from __future__ import annotations

from dataclasses import dataclass

from tapchanger_operator.api.base import seconds, timestamp, unix
from tapchanger_operator.api.retraining import RetrainingSpec, RetrainingStatus, RunStatus
from tapchanger_operator.decide.drift.respond import HELD_BY, drifted
from tapchanger_operator.decide.retraining import cron
from tapchanger_operator.decide.retraining.moves import Scene, begin
from tapchanger_operator.errors import UserError


@dataclass(frozen=True)
class Considered:
    """What a look at the triggers came to: the status with what it has to remember, and a run that begins."""

    status: RetrainingStatus
    run: RunStatus | None = None
    missed: str | None = None


def busy(scene: Scene) -> str:
    """Why no run can begin whoever wants it; empty where one can."""
    state, resolution = scene.state, scene.resolution
    if state.stable is None or state.stable.since is None:
        return "nothing serves yet"
    if resolution.model is None:
        return "the model at spec.model.uri is not known yet"
    pause = scene.snapshot.steering.pause
    if pause is not None and pause.by != HELD_BY:  # training is what may end a drift that holds rollouts
        return "the deployment is held by the annotation tapchanger.dev/pause"
    if state.canary:
        return f"canary {state.canary.revision} is being tested"
    target = resolution.content.revision if resolution.content else None
    if target is None:
        return "" if isinstance(resolution.problem, UserError) else "an engine is being built"
    if target != state.stable.revision and not state.is_rejected(target):
        return f"revision {target} is about to be rolled out"
    return ""


def consider(spec: RetrainingSpec, status: RetrainingStatus, scene: Scene) -> Considered:
    """Whether drift or the schedule begins a run; a person's order comes before (see `orders`)."""
    status = _calmed(spec, status, scene)
    status, due = _scheduled(spec, status, scene)
    held = busy(scene) or _too_soon(status, scene)
    wanted, why = _drifted(spec, status, scene)
    run = None
    if wanted and not held:
        run = begin(scene, "Drift", why)
    elif due and not held:
        run = begin(scene, "Schedule", f"due at {timestamp(due)}")
        status = status.model_copy(update={"scheduled": timestamp(due)})
    if run:
        return Considered(status.model_copy(update={"run": run, "waits": None}), run)
    if due and scene.now - due > seconds(spec.starting_deadline):
        status = status.model_copy(update={"scheduled": timestamp(due)})
        missed = f"the run due at {timestamp(due)} was left out: {held or 'another began'} for {spec.starting_deadline}"
        return Considered(status.model_copy(update={"message": missed, "waits": None}), missed=missed)
    waits = f"a run is wanted ({why if wanted else 'schedule'}) and waits: {held}" if wanted or due else None
    return Considered(status.model_copy(update={"message": waits or _told(status, why), "waits": waits}))


def _told(status: RetrainingStatus, why: str) -> str:
    last = status.runs[-1] if status.runs else None
    then = f"; the next one is due at {status.next}" if status.next else ""
    if why:
        return why + then
    if last is None:
        return f"no run yet{then}"
    return f"run {last.name} ({last.trigger}) ended as {last.outcome}: {last.message}{then}"


def _too_soon(status: RetrainingStatus, scene: Scene) -> str:
    if status.not_before is None or scene.now >= unix(status.not_before):
        return ""
    if status.failures:
        number = f"{status.failures} runs failed in a row" if status.failures > 1 else "the last run failed"
        return f"{number}; the next one may start at {status.not_before}"
    return f"retraining.minInterval lets the next run start at {status.not_before}"


def _drifted(spec: RetrainingSpec, status: RetrainingStatus, scene: Scene) -> tuple[bool, str]:
    """Whether drift wants a run, and why; without one, why it doesn't although something moved."""
    record = scene.drift
    if scene.spec.drift.action != "Retrain" or record is None or not drifted(record):
        return False, ""
    if status.answered is None:
        return True, f"{record.feature} moved since {record.since}"
    told = (
        f"{record.feature} has drifted again or still after run {status.answered.run}, so that another one would not help; "
        f"none is started until texts were like the reference for {spec.min_interval}. A person can order one"
    )
    return False, told


def _calmed(spec: RetrainingSpec, status: RetrainingStatus, scene: Scene) -> RetrainingStatus:
    """A drift that comes after a time without one is a new one."""
    answered, record = status.answered, scene.drift
    if answered is None or record is None:
        return status
    if drifted(record):
        calm = None
    elif record.verdict == "none" and record.texts > 0:
        calm = answered.calm_since or timestamp(scene.now)
    else:
        return status
    if calm and scene.now - unix(calm) >= seconds(spec.min_interval):
        return status.model_copy(update={"answered": None})
    return status.model_copy(update={"answered": answered.model_copy(update={"calm_since": calm})})


def _scheduled(spec: RetrainingSpec, status: RetrainingStatus, scene: Scene) -> tuple[RetrainingStatus, float | None]:
    """The time that is due and was not dealt with. However many have passed, the last one counts, as in a CronJob."""
    if spec.schedule is None:
        return status.model_copy(update={"schedule": "", "scheduled": None, "next": None}), None
    text = f"{spec.schedule} {spec.time_zone or 'UTC'}"
    latest = cron.latest(spec.schedule, spec.time_zone, scene.now)
    upcoming = cron.upcoming(spec.schedule, spec.time_zone, scene.now)
    status = status.model_copy(update={"next": timestamp(upcoming) if upcoming else None})
    if status.schedule != text:
        # A schedule counts from when it was written: what would have been due before was nobody's wish.
        return status.model_copy(update={"schedule": text, "scheduled": timestamp(scene.now)}), None
    known = unix(status.scheduled) if status.scheduled else scene.now
    return status, latest if latest is not None and latest > known else None
