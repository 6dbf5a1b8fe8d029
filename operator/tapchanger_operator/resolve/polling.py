"""A moving address is asked for new content from time to time; what is found becomes the model, as if the spec had changed."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

from tapchanger_operator import names
from tapchanger_operator.api.base import PINNED, seconds, timestamp, unix
from tapchanger_operator.api.polling import PollStatus
from tapchanger_operator.api.status import ModelStatus, TransformerDeploymentStatus
from tapchanger_operator.resolve.resolution import sentence
from tapchanger_operator.snapshot import JobState, Snapshot
from tapchanger_serving.contract.messages import Inspection

_SPREAD: Final = 0.1
"""Polls come up to this share of the interval later, each address at its own time, so that they don't come all at once."""

_WAITING_INTERVAL: Final = "5m"


def followed(snapshot: Snapshot, known: ModelStatus) -> ModelStatus:
    """The model after a look at the poll, if there is one: new content, or a note of how it went."""
    asks = _interval(snapshot) is not None or _trained_at(snapshot) is not None
    if not asks or PINNED in snapshot.spec.model.uri:
        return known.model_copy(update={"poll": None})
    now, job, trained = timestamp(snapshot.now), snapshot.poll, _trained_at(snapshot)
    if known.poll is None or (trained is not None and unix(known.poll.at) < trained):
        return known.model_copy(update={"poll": PollStatus(at=now)})
    if job is None or job.phase in ("Pending", "Running"):
        return known
    found = _answer(job)
    if isinstance(found, str):
        return known.model_copy(update={"poll": PollStatus(at=now, problem=found)})
    # Another node of the same pool may have other hardware, which is no reason to build anew.
    found = found.model_copy(update={"hardware": known.inspection.hardware})
    return known.model_copy(update={"digest": found.digest, "inspection": found, "poll": PollStatus(at=now)})


def due(snapshot: Snapshot, model: ModelStatus) -> bool:
    """Whether the address of `model` is to be asked now: its time has come, and nothing that it led to is under way."""
    if model.poll is None or _under_way(snapshot, model):
        return False
    run = snapshot.status.retraining.run if snapshot.status.retraining else None
    if run and _trained_at(snapshot) is not None:
        return run.asked in (None, model.poll.at)
    interval = _interval(snapshot)
    if interval is None:
        return False
    share = int(names.content_hash([snapshot.owner.uid, model.key, model.poll.at], 8), 16) / 16**8
    return snapshot.now >= unix(model.poll.at) + seconds(interval) * (1 + _SPREAD * share)


def job_name(deployment: str, model: ModelStatus) -> str | None:
    """The Job that asks next: each has a name of its own, and an operator that was killed finds the one that it started."""
    return names.poll(deployment, names.content_hash([model.key, model.poll.at], 8)) if model.poll else None


def _interval(snapshot: Snapshot) -> str | None:
    """How often the address is asked: as the spec says, or while a service trains that need not say when it is done."""
    status = snapshot.status.retraining
    waits = status is not None and status.run is not None and status.run.phase == "Waiting"
    return snapshot.spec.model.poll_interval or (_WAITING_INTERVAL if waits else None)


def _trained_at(snapshot: Snapshot) -> float | None:
    """When a retraining run ended (Unix seconds) whose content is still to be asked for: an older question does not count."""
    run = snapshot.status.retraining.run if snapshot.status.retraining else None
    return unix(run.ended) if run and run.phase == "Polling" and run.ended else None


def _under_way(snapshot: Snapshot, model: ModelStatus) -> bool:
    """A tag that moves faster than a rollout takes would keep every rollout from its end."""
    builds = (build for build in snapshot.builds.values() if build.spec.model.digest == model.digest)
    building = any(snapshot.owner.uid in b.owners and b.status.phase not in ("Ready", "Failed") for b in builds)
    return building or _rolled_out(snapshot.status, model)


def _rolled_out(status: TransformerDeploymentStatus, model: ModelStatus) -> bool:
    """Whether what was found is a canary, or is about to take over an arm. One that gets nowhere holds up nothing."""
    canary = status.canary
    if canary is not None and not canary.paused and status.model is not None and status.model.key == model.key:
        return True
    arms = (arm for arm in status.arms if arm.model and arm.model.key == model.key)
    return any(arm.next is not None and not arm.stalled for arm in arms)


def _answer(job: JobState) -> Inspection | str:
    """What the poll found, or in words why it found nothing."""
    if job.failure:
        return sentence(job.failure.message, job.failure.remedy, job.failure.field)
    try:
        return Inspection.model_validate_json(job.answer or "")
    except ValidationError as problem:
        return f"the answer can't be read: {problem.error_count()} errors; are operator and builder of one release?"
