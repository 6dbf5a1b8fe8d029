"""One pass over one object: observe, understand, decide, plan, apply, write status, tell."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from pydantic import ValidationError

from tapchanger_operator import names
from tapchanger_operator.api import reasons
from tapchanger_operator.api.base import unix
from tapchanger_operator.api.enginebuild import EngineBuildSpec, EngineBuildStatus
from tapchanger_operator.api.status import TransformerDeploymentStatus
from tapchanger_operator.apply.capture import retain
from tapchanger_operator.apply.collect import Collections, collect_store
from tapchanger_operator.apply.converge import Applied, converge, release_builds
from tapchanger_operator.apply.mend import mend
from tapchanger_operator.apply.records import Records
from tapchanger_operator.apply.retraining import launch
from tapchanger_operator.decide import compare, rollout
from tapchanger_operator.decide.decision import decide
from tapchanger_operator.decide.drift import respond
from tapchanger_operator.decide.retraining import follow as retrain
from tapchanger_operator.decide.retraining.moves import Scene
from tapchanger_operator.decide.state import Change, State
from tapchanger_operator.errors import UserError
from tapchanger_operator.events import event
from tapchanger_operator.gauges import TOLD, facts
from tapchanger_operator.kube import Kube, Object
from tapchanger_operator.names import Owner, Ref
from tapchanger_operator.observe import pods as pod_facts
from tapchanger_operator.observe.gather import gather, owner_of, parse_status
from tapchanger_operator.observe.nodes import Nodes
from tapchanger_operator.observe.windows import Source
from tapchanger_operator.plan import jobs
from tapchanger_operator.plan.objects import objects
from tapchanger_operator.resolve.resolution import Resolution
from tapchanger_operator.resolve.variants import understand_all
from tapchanger_operator.settings import Settings
from tapchanger_operator.snapshot import JobState, Snapshot, Trouble
from tapchanger_operator.status import builds as build_status
from tapchanger_operator.status import capture, hardware, news, polls
from tapchanger_operator.status.compose import compose, refused_spec
from tapchanger_operator.status.situation import ROUTED_SECONDS, Situation
from tapchanger_operator.telemetry import EVENTS, tell_drift, tell_retraining
from tapchanger_serving.contract.messages import StepFailure

log = logging.getLogger(__name__)

JUDGING_SECONDS: Final = 1.0
WORKING_SECONDS: Final = 2.0
IDLE_SECONDS: Final = 30.0
WATCH_WRITE_SECONDS: Final = 10.0
"""How often the figures of a watch are written, as long as they change nothing."""
_ROUTELESS: Final = (reasons.ROUTE_NOT_ACCEPTED, reasons.GATEWAY_API_MISSING)


@dataclass(frozen=True)
class Tools:
    """What a pass works with. `clock` gives Unix seconds."""

    kube: Kube
    observer: Source
    settings: Settings
    applied: Applied
    clock: Callable[[], float]
    collections: Collections = field(default_factory=Collections)
    nodes: Nodes = field(default_factory=Nodes)
    records: Records = field(default_factory=Records)
    retentions: Collections = field(default_factory=Collections)


def reconcile_deployment(tools: Tools, ref: Ref) -> float | None:
    """One pass over a TransformerDeployment; seconds until the next, None where it is gone.

    Raises Transient where the API server could not be reached; nothing is lost by that.
    """
    body = tools.kube.get(ref)
    if body is None or "deletionTimestamp" in body["metadata"]:
        tell_drift(ref.namespace, ref.name, None)
        tell_retraining(ref.namespace, ref.name, None, None)
        TOLD.tell(ref.namespace, ref.name, None)
        tools.records.forget(ref)
        return None
    now = tools.clock()
    body = tools.records.recalled(ref, {**body, "kind": ref.kind}, now)
    try:
        snapshot = gather(tools.kube, tools.observer, body, now, tools.nodes.current(tools.kube, now))
    except UserError as problem:
        _refuse(tools, ref, body, problem)
        return IDLE_SECONDS
    resolution = understand_all(snapshot, tools.settings.images)
    drift = respond.follow(snapshot)
    snapshot = respond.remembered(respond.hold(snapshot, drift), drift)
    outcome, analysis = decide(snapshot, resolution)
    outcome = respond.take_back(snapshot, outcome, drift)
    refused = _apply(tools, snapshot, resolution, outcome.state)
    for mended in mend(tools.kube, snapshot):
        _tell(tools, mended.build, (Change("Warning", reasons.ARTIFACT_DAMAGED, mended.message),), snapshot.now)
    scene = Scene(snapshot, resolution, outcome.state, drift, launch(tools.kube, snapshot, tools.settings.images))
    retraining, told_of_runs = retrain.follow(scene)
    status = compose(Situation(snapshot, resolution, outcome.state, analysis, refused, drift, retraining))
    status = status.model_copy(update={"capture": capture.record(snapshot, tools.settings.images.capture)})
    writes = _differs(status, snapshot.status) or tools.records.late(ref, status, snapshot.status, now)
    if writes:
        tools.kube.apply_status(ref, status.wire())
    tools.records.keep(ref, status.drift, now, written=writes)
    changes = (
        *outcome.changes,
        *_problem_changes(snapshot.status, status),
        *polls.changes(snapshot.status, status),
        *hardware.changes(snapshot.status.model, status.model),
        *respond.changes(snapshot.status.drift, status.drift),
        *told_of_runs,
        *capture.changes(snapshot.status.capture, status.capture),
    )
    _tell(tools, snapshot.owner, changes, snapshot.now)
    tell_drift(ref.namespace, ref.name, status.drift)
    tell_retraining(ref.namespace, ref.name, snapshot.status.retraining, status.retraining)
    TOLD.tell(ref.namespace, ref.name, facts(snapshot.spec, status))
    collect_store(tools.kube, tools.collections, snapshot.owner, tools.settings, snapshot.now)
    retain(tools.kube, tools.retentions, snapshot.owner, status.capture, tools.settings, snapshot.now)
    return _next_pass(snapshot, outcome.state, resolution, refused, status, tools.clock())


def reconcile_build(tools: Tools, ref: Ref) -> float | None:
    """One pass over an EngineBuild; seconds until the next, None where there is nothing more to do."""
    body = tools.kube.get(ref)
    if body is None or "deletionTimestamp" in body["metadata"]:
        return None
    body = {**body, "kind": ref.kind}
    before = EngineBuildStatus.model_validate(body.get("status", {}))
    if before.phase in ("Ready", "Failed"):
        return None
    owner, now = owner_of(body), tools.clock()
    try:
        state = _build_job_state(tools, owner, EngineBuildSpec.model_validate(body["spec"]))
    except ValidationError as problem:
        failure = StepFailure(reason=reasons.INVALID_SPEC, message=f"the spec can't be read: {problem}")
        state = JobState("Failed", failure=failure)
    except UserError as problem:
        state = JobState("Pending", trouble=Trouble(problem.reason, problem.message))
    status = build_status.compose(ref.name, before, state, body["metadata"]["generation"], now)
    if status != before:
        tools.kube.apply_status(ref, status.model_dump(mode="json", by_alias=True, exclude_none=True))
    if status.phase != before.phase:
        kind: Literal["Normal", "Warning"] = "Warning" if status.phase == "Failed" else "Normal"
        _tell(tools, owner, (Change(kind, f"Build{status.phase}", status.message),), now)
    return WORKING_SECONDS


def _build_job_state(tools: Tools, owner: Owner, spec: EngineBuildSpec) -> JobState:
    """Where the build's Job stands; it is started where there is none."""
    job = tools.kube.get(Ref("Job", owner.namespace, owner.name))
    if job is None:
        job = tools.kube.apply(jobs.build_job(owner, spec, tools.settings.images, tools.settings.store))
    pods = tools.kube.items("Pod", owner.namespace, f"{names.LABEL_BUILD}={owner.name}")
    return pod_facts.job_state(job, pod_facts.of_job(pods, owner.name), reasons.BUILD_CRASHED)


def _apply(tools: Tools, snapshot: Snapshot, resolution: Resolution, state: State) -> UserError | None:
    """Makes the world as planned; what the cluster refuses is returned to be told."""
    try:
        converge(tools.kube, tools.applied, snapshot, objects(snapshot, resolution, state, tools.settings))
    except UserError as problem:
        return problem
    release_builds(tools.kube, snapshot, _needed_builds(resolution, state, snapshot.status))
    return None


def _needed_builds(resolution: Resolution, state: State, status: TransformerDeploymentStatus) -> frozenset[str]:
    """The target's build, and those of every revision that serves, may serve again or was rejected.

    While it is not known what the spec asks for, the build of the last target is kept as well.
    """
    revisions = [state.stable, state.canary, state.previous, *state.retiring, *state.rejected]
    needed = {revision.build for revision in revisions if revision}
    needed |= {part.build for arm in state.arms for part in (arm, arm.next) if part and part.build}
    needed |= {variant.build[0] for variant in resolution.variants.values() if variant.build}
    if resolution.build:
        needed.add(resolution.build[0])
    elif status.target:
        needed.add(status.target.build)
    return frozenset(needed)


def _refuse(tools: Tools, ref: Ref, body: Object, problem: UserError) -> None:
    before = parse_status(body)
    status = refused_spec(before, problem, body["metadata"]["generation"], tools.clock())
    if _differs(status, before):
        tools.kube.apply_status(ref, status.wire())
        _tell(tools, owner_of(body), (Change("Warning", problem.reason, problem.message),), tools.clock())


def _differs(status: TransformerDeploymentStatus, before: TransformerDeploymentStatus) -> bool:
    """Whether the status says something new; the time of the last look alone is nothing new, nor are figures that
    hardly moved.

    While nothing but the figures of a watch change they are written every few seconds only: a look that was not written
    is made up for by the next.
    """
    status = news.settled(status, before)
    fresh, old = status.analysis, before.analysis
    if fresh and old and fresh.watching and (fresh.revision, fresh.watching) == (old.revision, old.watching):
        late = unix(fresh.at) - unix(old.at) >= WATCH_WRITE_SECONDS
        return late or _without_figures(status) != _without_figures(before)

    def essence(value: TransformerDeploymentStatus) -> TransformerDeploymentStatus:
        analysis = value.analysis and value.analysis.model_copy(update={"at": ""})
        quality = value.quality and value.quality.model_copy(update={"at": ""})
        return value.model_copy(update={"analysis": analysis, "quality": quality})

    return essence(status) != essence(before)


def _without_figures(status: TransformerDeploymentStatus) -> TransformerDeploymentStatus:
    figures = (reasons.ANALYSIS, reasons.SLO_MET)
    conditions = [c.model_copy(update={"message": ""}) if c.type in figures else c for c in status.conditions]
    return status.model_copy(update={"analysis": None, "slo": None, "quality": None, "conditions": conditions})


def _problem_changes(before: TransformerDeploymentStatus, after: TransformerDeploymentStatus) -> tuple[Change, ...]:
    """An Event where the deployment stalls for a new reason, or becomes ready."""

    def by_type(status: TransformerDeploymentStatus, kind: str) -> tuple[str, str, str]:
        found = next((c for c in status.conditions if c.type == kind), None)
        return (found.status, found.reason, found.message) if found else ("Unknown", "", "")

    changes = []
    old, new = by_type(before, reasons.STALLED), by_type(after, reasons.STALLED)
    if new[0] == "True" and new[1] != old[1] and new[1] != reasons.ROLLED_BACK:
        changes.append(Change("Warning", new[1], new[2]))
    if by_type(before, reasons.READY)[0] != "True" and by_type(after, reasons.READY)[0] == "True":
        changes.append(Change("Normal", reasons.READY, after.message))
    return tuple(changes)


def _tell(tools: Tools, owner: Owner, changes: tuple[Change, ...], now: float) -> None:
    for change in changes:
        level = logging.WARNING if change.kind == "Warning" else logging.INFO
        fields = {"kind": owner.kind, "namespace": owner.namespace, "object": owner.name, "reason": change.reason}
        log.log(level, change.message, extra=fields)
        EVENTS.labels(owner.kind, owner.namespace, owner.name, change.reason).inc()
        try:
            tools.kube.create(event(owner, change, now, tools.settings.identity))
        except UserError as problem:
            log.warning("an Event was refused: %s", problem.message, extra=fields)


def _next_pass(
    snapshot: Snapshot,
    state: State,
    resolution: Resolution,
    refused: UserError | None,
    status: TransformerDeploymentStatus,
    now: float,
) -> float:
    serving = any(c.type == reasons.SERVING and c.status == "True" for c in status.conditions)
    since = state.stable.since if state.stable else None
    if since is not None and not serving and snapshot.now - unix(since) < ROUTED_SECONDS:
        return max(unix(since) + ROUTED_SECONDS - now, 0.05)
    if state.canary and state.canary.weight > 0:
        return JUDGING_SECONDS
    routeless = any(c.type == reasons.STALLED and c.reason in _ROUTELESS for c in status.conditions)
    if refused or isinstance(resolution.problem, UserError) or routeless:
        return IDLE_SECONDS / 3
    watched = rollout.watched(snapshot.spec.rollout, state)
    run = status.retraining.run if status.retraining else None
    if run and run.phase in ("Starting", "Polling", "RollingOut"):
        return WORKING_SECONDS
    if resolution.problem or state.canary or state.retiring or watched or not serving:
        return WORKING_SECONDS
    if state.arms:
        return WORKING_SECONDS if any(arm.reason for arm in state.arms) else compare.STEP_SECONDS
    return IDLE_SECONDS
