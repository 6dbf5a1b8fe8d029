"""A moving address is asked for new content from time to time; what is found becomes the model, as if the spec had changed."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

from tapchanger_operator import names
from tapchanger_operator.api.base import PINNED, seconds, timestamp, unix
from tapchanger_operator.api.polling import PollStatus
from tapchanger_operator.api.status import ModelStatus
from tapchanger_operator.resolve.resolution import sentence
from tapchanger_operator.snapshot import JobState, Snapshot
from tapchanger_serving.contract.messages import Inspection

_SPREAD: Final = 0.1
"""Polls come up to this share of the interval later, each deployment's by its own, so that they don't come all at once."""


def followed(snapshot: Snapshot, known: ModelStatus) -> ModelStatus:
    """The model after a look at the poll, if there is one: new content, or a note of how it went."""
    interval = snapshot.spec.model.poll_interval
    if interval is None or PINNED in snapshot.spec.model.uri:
        return known.model_copy(update={"poll": None})
    now, job = timestamp(snapshot.now), snapshot.poll
    if known.poll is None:
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
    interval = snapshot.spec.model.poll_interval
    if interval is None or model.poll is None or _under_way(snapshot, model):
        return False
    share = int(names.content_hash([snapshot.owner.uid, model.poll.at], 8), 16) / 16**8
    return snapshot.now >= unix(model.poll.at) + seconds(interval) * (1 + _SPREAD * share)


def job_name(deployment: str, model: ModelStatus) -> str | None:
    """The Job that asks next: each has a name of its own, and an operator that was killed finds the one that it started."""
    return names.poll(deployment, names.content_hash([model.key, model.poll.at], 8)) if model.poll else None


def _under_way(snapshot: Snapshot, model: ModelStatus) -> bool:
    """A tag that moves faster than a rollout takes would keep every rollout from its end."""
    canary = snapshot.status.canary
    builds = (build for build in snapshot.builds.values() if build.spec.model.digest == model.digest)
    building = any(snapshot.owner.uid in b.owners and b.status.phase not in ("Ready", "Failed") for b in builds)
    return building or (canary is not None and not canary.paused)


def _answer(job: JobState) -> Inspection | str:
    """What the poll found, or in words why it found nothing."""
    if job.failure:
        return sentence(job.failure.message, job.failure.remedy, job.failure.field)
    try:
        return Inspection.model_validate_json(job.answer or "")
    except ValidationError as problem:
        return f"the answer can't be read: {problem.error_count()} errors; are operator and builder of one release?"
