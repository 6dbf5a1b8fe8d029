"""How a run under way goes on, by what was seen of it."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

from tapchanger_operator import names
from tapchanger_operator.api.base import seconds, timestamp, unix
from tapchanger_operator.api.retraining import RetrainingSpec, RunStatus
from tapchanger_operator.decide.retraining.moves import Scene, ended
from tapchanger_operator.decide.retraining.rollout import rolled_out
from tapchanger_operator.snapshot import JobState
from tapchanger_serving.contract.retraining import RunResult

LATE_SECONDS: Final = 600.0
"""How long after its time a run is given up whose Job does not say that it ended."""
POLL_SECONDS: Final = 3600.0
"""How long the address may take to be asked, which waits for a rollout that is under way."""
_LONGEST: Final = 500


def advance(run: RunStatus, scene: Scene) -> RunStatus:
    """The run after this look; `outcome` is set where it is over."""
    spec = scene.spec.retraining
    if run.inputs.uri != scene.spec.model.uri:
        return ended(run, "Superseded", f"spec.model.uri is now {scene.spec.model.uri}, where the run puts nothing")
    if spec is None and run.phase not in ("Polling", "RollingOut"):
        return ended(run, "Superseded", "retraining was taken out of the spec")
    if run.phase == "Starting" and spec:
        return _starting(run, spec, scene)
    if run.phase == "Running" and spec:
        return _running(run, spec, scene)
    if run.phase == "Waiting" and spec:
        return _waiting(run, spec, scene)
    if run.phase == "Polling":
        return _polling(run, scene)
    return rolled_out(run, scene)


def trained(run: RunStatus, now: float, message: str) -> RunStatus:
    """Training has ended well; the address is asked next."""
    return run.model_copy(update={"phase": "Polling", "ended": timestamp(now), "message": message})


def _starting(run: RunStatus, spec: RetrainingSpec, scene: Scene) -> RunStatus:
    if scene.refused:
        return ended(run, "Failed", f"the cluster refuses the run: {scene.refused.message}")
    if scene.snapshot.retraining is None:
        return _in_time(run, spec, scene)
    return run.model_copy(update={"phase": "Running", "message": "its Job was made"})


def _running(run: RunStatus, spec: RetrainingSpec, scene: Scene) -> RunStatus:
    job, name = scene.snapshot.retraining, names.retraining(scene.snapshot.owner.name, run.name)
    if job is None:
        return ended(run, "Failed", f"its Job {name} is gone")
    if job.phase == "Failed":
        why = job.failure.message if job.failure else "the Job failed without a message"
        remedy = f"; {job.failure.remedy}" if job.failure and job.failure.remedy else ""
        return ended(run, "Failed", f"{why}{remedy}")
    if job.phase == "Succeeded":
        if spec.webhook and spec.job is None:
            told = "the webhook took the run; new content at model.uri, or the annotation tapchanger.dev/retrained, ends it"
            return run.model_copy(update={"phase": "Waiting", "message": told})
        return trained(_answered(run, job), scene.now, "training has ended; the address is asked for its content")
    return _in_time(run.model_copy(update={"message": _where(job, name)}), spec, scene)


def _where(job: JobState, name: str) -> str:
    if job.phase == "Pending":
        return f"the pod of {name} waits" + (f": {job.trouble.message}" if job.trouble else "")
    return f"{name} runs"


def _in_time(run: RunStatus, spec: RetrainingSpec, scene: Scene) -> RunStatus:
    """A Job ends by its own deadline; this is for one that nobody ends."""
    if scene.now - unix(run.started) > seconds(spec.timeout) + LATE_SECONDS:
        return ended(run, "Failed", f"not ended {spec.timeout} after its start (retraining.timeout)")
    return run


def _answered(run: RunStatus, job: JobState) -> RunStatus:
    """What the run says of itself; it need not say anything."""
    if not (job.answer or "").strip():
        return run
    try:
        result = RunResult.model_validate_json(job.answer or "")
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        note = f"its result can't be read ({where + ': ' if where else ''}{first['msg']}); docs/retraining.md says what to write"
        return run.model_copy(update={"note": note[:_LONGEST]})
    figures = {str(name): float(value) for name, value in result.figures.items()}
    return run.model_copy(update={"figures": figures, "data": list(result.data), "note": result.message})


def _waiting(run: RunStatus, spec: RetrainingSpec, scene: Scene) -> RunStatus:
    model = scene.resolution.model
    if model and model.digest != run.inputs.content:
        return _arrived(run.model_copy(update={"ended": timestamp(scene.now)}), model.digest)
    if scene.now - unix(run.started) > seconds(spec.timeout):
        return ended(run, "Failed", f"no new content came to {run.inputs.uri} in {spec.timeout} (retraining.timeout)")
    return run


def _polling(run: RunStatus, scene: Scene) -> RunStatus:
    """The first answer to a question that was asked after training ended."""
    canary = scene.state.canary
    if canary and not canary.paused:
        return run.model_copy(update={"message": f"its content is looked for when canary {canary.revision} is decided"})
    model, since = scene.resolution.model, unix(run.ended or run.started)
    poll = model.poll if model else None
    if model is None or poll is None or unix(poll.at) < since:
        late = scene.now - since > POLL_SECONDS
        return ended(run, "Failed", f"{run.inputs.uri} could not be asked for its content") if late else run
    if run.asked is None:
        return run.model_copy(update={"asked": poll.at})
    if run.asked == poll.at:
        late = scene.now - since > POLL_SECONDS
        return ended(run, "Failed", f"{run.inputs.uri} did not say what it holds in an hour") if late else run
    if poll.problem:
        return ended(run, "Failed", f"training has ended, but what it left can't be used: {poll.problem}")
    if model.digest == run.inputs.content:
        left = run.model_copy(update={"digest": model.digest})
        return ended(left, "SameContent", f"the run left the same content at {run.inputs.uri}: {model.digest}")
    return _arrived(run, model.digest)


def _arrived(run: RunStatus, digest: str) -> RunStatus:
    return run.model_copy(update={"phase": "RollingOut", "digest": digest, "message": f"it left new content: {digest}"})
