"""Understands a spec as far as the facts go: model → build → revision."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pydantic import ValidationError

from tapchanger_operator.api import reasons
from tapchanger_operator.api.status import Condition, ModelStatus
from tapchanger_operator.errors import OperatorError, UserError, Waiting
from tapchanger_operator.resolve.identity import build_name, engine_build, inspection_key, revision
from tapchanger_operator.resolve.polling import followed
from tapchanger_operator.resolve.resolution import Resolution, sentence
from tapchanger_operator.settings import Images
from tapchanger_operator.snapshot import BuildSeen, JobState, Snapshot
from tapchanger_serving.contract.messages import Hardware, Inspection

_PHASES: Final = {
    "Pending": "the build waits for a node",
    "Fetching": "fetching the checkpoint",
    "Exporting": "exporting the model and recording PyTorch's answers",
    "Distilling": "training a smaller student with the model as its teacher",
    "Measuring": "measuring the candidates and checking the gates",
}

_SEEN_ANEW: Final = frozenset({reasons.CLAIM_MISSING, reasons.REFUSED})
"""Problems that each pass sees for itself: where one is not seen, it is over."""


def understand(snapshot: Snapshot, images: Images, found: Hardware | None = None) -> Resolution:
    """What `snapshot`'s spec means, and what stands in the way of knowing more. `found` is hardware that replaces the known."""
    spec = snapshot.spec
    if snapshot.missing_claims:
        claims = ", ".join(snapshot.missing_claims)
        where = f"{claims} in namespace {snapshot.owner.namespace}"
        message = f"there is no PersistentVolumeClaim {where}; create it or change the address"
        return Resolution(problem=UserError(reasons.CLAIM_MISSING, f"spec.model.uri {spec.model.uri}: {message}"))
    model, problem = _model(snapshot)
    if model is None:
        return Resolution(problem=problem)
    if found:
        model = model.model_copy(update={"inspection": model.inspection.model_copy(update={"hardware": found})})
    build = engine_build(spec, model.inspection, images.builder)
    name = build_name(build)
    known = Resolution(model=model, build=(name, build))
    seen = snapshot.builds.get(name)
    waiting = _build_problem(name, seen)
    if waiting or seen is None or seen.status.report is None:
        return replace(known, problem=waiting)
    report = seen.status.report
    return replace(known, content=revision(spec, build, name, report.artifact, report.runtime, images.server))


def _model(snapshot: Snapshot) -> tuple[ModelStatus | None, OperatorError | None]:
    """The model as status remembers it, or as the inspecting Job answers."""
    spec, key = snapshot.spec, inspection_key(snapshot.spec)
    known = snapshot.status.model
    if known and known.key == key and not _has_changed_since(snapshot, known):
        return followed(snapshot, known), None
    job = snapshot.inspection
    if job is None or job.phase in ("Pending", "Running"):
        return None, _still_inspecting(snapshot, job)
    if job.phase == "Succeeded":
        try:
            inspection = Inspection.model_validate_json(job.answer or "")
        except ValidationError as problem:
            why = f"{problem.error_count()} errors; are operator and builder of one release?"
            message = f"the inspecting Job's answer can't be read: {why}"
            return None, UserError(reasons.INSPECTION_FAILED, message)
        return ModelStatus(uri=spec.model.uri, digest=inspection.digest, key=key, inspection=inspection), None
    failure = job.failure
    if failure is None:
        return None, UserError(reasons.INSPECTION_FAILED, "the inspecting Job failed without a message")
    return None, UserError(failure.reason, sentence(failure.message, failure.remedy, failure.field))


def _has_changed_since(snapshot: Snapshot, known: ModelStatus) -> bool:
    """Whether the build found other content at the address than the inspection did: then it is inspected again."""
    builds = [b for b in snapshot.builds.values() if b.spec.model.digest == known.digest and b.status.phase == "Failed"]
    return any(c.reason == reasons.DIGEST_MISMATCH for b in builds for c in b.status.conditions)


def _still_inspecting(snapshot: Snapshot, job: JobState | None) -> OperatorError:
    """A model that is looked at again after a failure keeps its problem until there is another answer."""
    if job and job.trouble:
        return UserError(job.trouble.reason, f"the model can't be inspected: {job.trouble.message}")
    before = _condition(snapshot, reasons.STALLED)
    stalled = before is not None and before.status == "True" and before.observed_generation == snapshot.generation
    if before and stalled and before.reason not in _SEEN_ANEW:
        return UserError(before.reason, before.message)
    return Waiting(reasons.INSPECTING, f"reading {snapshot.spec.model.uri} and the node's hardware")


def _build_problem(name: str, seen: BuildSeen | None) -> OperatorError | None:
    if seen is None:
        return Waiting(reasons.BUILDING, f"engine {name}: the build is being started")
    if seen.status.phase == "Failed":
        ready = next((c for c in seen.status.conditions if c.type == reasons.READY), None)
        reason = ready.reason if ready else reasons.BUILD_CRASHED
        return UserError(reason, f"engine {name}: {seen.status.message}")
    if seen.status.phase != "Ready" or seen.status.report is None:
        trouble = next((c for c in seen.status.conditions if c.type == reasons.STALLED and c.status == "True"), None)
        if trouble:
            return UserError(trouble.reason, f"engine {name}: {trouble.message}")
        return Waiting(reasons.BUILDING, f"engine {name}: {_PHASES.get(seen.status.phase, seen.status.phase)}")
    return None


def _condition(snapshot: Snapshot, kind: str) -> Condition | None:
    return next((condition for condition in snapshot.status.conditions if condition.type == kind), None)
