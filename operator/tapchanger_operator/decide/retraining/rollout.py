"""What becomes of a run's content: it is built, tested beside the stable revision and promoted like any other."""

from __future__ import annotations

from tapchanger_operator.api.retraining import RunStatus
from tapchanger_operator.api.status import RevisionStatus
from tapchanger_operator.decide.retraining.moves import Scene, ended


def rolled_out(run: RunStatus, scene: Scene) -> RunStatus:
    """The run after a look at who is built, tested and serves."""
    state, model = scene.state, scene.resolution.model
    run = _named(run, scene)
    stable, build = state.stable, scene.snapshot.builds.get(run.build or "")
    if stable and stable.since and _is_of(stable, run, scene):
        found = run.model_copy(update={"build": stable.build, "revision": stable.revision})
        return ended(found, "Promoted", f"revision {stable.revision} serves what the run left")
    rejected = next((one for one in reversed(state.rejected) if one.revision == run.revision), None)
    if rejected:
        return ended(run, "RolledBack", f"revision {rejected.revision} was taken back: {rejected.message}")
    if build and build.status.phase == "Failed":
        return ended(run, "BuildFailed", build.status.message)
    if model and model.digest != run.digest:
        return ended(run, "Superseded", f"other content came to {run.inputs.uri} before: {model.digest}")
    canary = state.canary
    if canary and canary.revision == run.revision:
        where = (
            f"canary {canary.revision} gets {canary.weight} %" if canary.weight else f"canary {canary.revision} starts"
        )
        return run.model_copy(update={"message": where})
    if build and build.status.phase != "Ready":
        return run.model_copy(update={"message": f"engine {build.name} is being built"})
    return run.model_copy(update={"message": f"its content waits for its turn: {run.digest}"})


def taken_back(run: RunStatus, scene: Scene) -> RunStatus:
    """The last run with what happened after its promotion: a watch may still bring the previous revision back."""
    if run.outcome != "Promoted":
        return run
    rejected = next((one for one in reversed(scene.state.rejected) if one.revision == run.revision), None)
    serves = scene.state.stable is not None and scene.state.stable.revision == run.revision
    if rejected is None or serves:
        return run
    return ended(run, "RolledBack", f"revision {rejected.revision} was taken back: {rejected.message}")


def _named(run: RunStatus, scene: Scene) -> RunStatus:
    """Build and revision of the run's content, as far as they are known by now."""
    resolution = scene.resolution
    if resolution.model is None or resolution.model.digest != run.digest:
        return run
    changes: dict[str, str] = {}
    if resolution.build:
        changes["build"] = resolution.build[0]
    if resolution.content:
        changes["revision"] = resolution.content.revision
    return run.model_copy(update=changes)


def _is_of(stable: RevisionStatus, run: RunStatus, scene: Scene) -> bool:
    """Whether the stable revision was made from the run's content."""
    build = scene.snapshot.builds.get(stable.build)
    return build is not None and build.spec.model.digest == run.digest
