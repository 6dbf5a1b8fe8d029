"""Reads the world of one TransformerDeployment into a snapshot."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tapchanger_operator import names
from tapchanger_operator.api import reasons
from tapchanger_operator.api.base import URI_HELP, URI_PATTERN, seconds, unix
from tapchanger_operator.api.enginebuild import EngineBuildSpec, EngineBuildStatus
from tapchanger_operator.api.spec import TransformerDeploymentSpec
from tapchanger_operator.api.status import TransformerDeploymentStatus
from tapchanger_operator.decide import afterwards, compare, quality
from tapchanger_operator.decide.drift import watch as watch_drift
from tapchanger_operator.decide.retraining import cron
from tapchanger_operator.decide.rollout import watched
from tapchanger_operator.decide.state import State
from tapchanger_operator.errors import Transient, UserError
from tapchanger_operator.kube import Kube, Object
from tapchanger_operator.names import Owner, Ref
from tapchanger_operator.observe import capture, serving
from tapchanger_operator.observe import pods as pod_facts
from tapchanger_operator.observe import routes as route_facts
from tapchanger_operator.observe.steering import steering
from tapchanger_operator.observe.windows import Source
from tapchanger_operator.plan import retraining
from tapchanger_operator.resolve import polling, reprobe
from tapchanger_operator.resolve.identity import RevisionContent, claims, data_uris, drift_data, inspection_key
from tapchanger_operator.resolve.variants import variant_spec, variant_specs, variant_status
from tapchanger_operator.snapshot import BuildSeen, JobState, Node, Silence, Snapshot, VariantSeen
from tapchanger_serving.contract.windows import Windows

log = logging.getLogger(__name__)

OWNED_KINDS: Final = (
    "Deployment", "Service", "ConfigMap", "ControllerRevision", "Job", "PodDisruptionBudget",
    "NetworkPolicy",
)  # fmt: skip

_WHO_SERVES: Final = frozenset({"stable", "canary", "previous", "retiring", "rejected", "arms", "experiment"})


def parse_spec(body: Mapping[str, Any]) -> TransformerDeploymentSpec:
    """The spec of an object. Raises UserError that names each bad field and what was found there."""
    try:
        spec = TransformerDeploymentSpec.model_validate(body.get("spec", {}))
    except ValidationError as problem:
        lines = [_line(error) for error in problem.errors(include_url=False)]
        raise UserError(reasons.INVALID_SPEC, "; ".join(lines)) from problem
    if spec.retraining and spec.retraining.schedule:
        try:
            cron.check(spec.retraining.schedule, spec.retraining.time_zone)
        except ValueError as problem:
            raise UserError(reasons.INVALID_SPEC, str(problem)) from problem
    uris = _addresses(spec)
    for number, variant in enumerate(spec.variants):
        uris |= _addresses(variant_spec(spec, variant), f"variants.{number}.")
    for field, uri in uris.items():
        if not re.match(URI_PATTERN, uri):
            raise UserError(reasons.INVALID_SPEC, f"spec.{field}: {uri!r} is not an address; {URI_HELP}")
    return spec


def _addresses(spec: TransformerDeploymentSpec, prefix: str = "") -> dict[str, str]:
    data = {f"{prefix}engine.{field}": uri for field, uri in data_uris(spec.engine).items()}
    if (drift := drift_data(spec)) and not prefix:
        data["drift.reference.uri"] = drift.uri
    return {f"{prefix}model.uri": spec.model.uri} | data


def _line(error: ErrorDetails) -> str:
    """One thing wrong with a spec: the field, what is wanted, and what was found where that says more."""
    field = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"spec.{field}: there is no such field"
    found = "" if error["type"] == "missing" else f", not {str(error['input'])[:100]!r}"
    return f"spec.{field}: {error['msg']}{found}"


def parse_status(body: Mapping[str, Any]) -> TransformerDeploymentStatus:
    """The status of an object, without the fields that can't be read (a later version wrote them).

    Raises Transient where these say who serves: guessing that would take traffic away, so nothing is touched.
    """
    status = body.get("status", {})
    try:
        return TransformerDeploymentStatus.model_validate(status)
    except ValidationError as problem:
        unreadable = {str(error["loc"][0]) for error in problem.errors(include_url=False)}
        if unreadable & _WHO_SERVES:
            message = f"status.{', status.'.join(sorted(unreadable))} can't be read: {problem}"
            raise Transient("StatusUnreadable", message) from problem
        readable = {key: value for key, value in status.items() if key not in unreadable}
        return TransformerDeploymentStatus.model_validate(readable)


def owner_of(body: Mapping[str, Any]) -> Owner:
    """The owner reference's fields of an object."""
    meta = body["metadata"]
    return Owner(body["kind"], meta["name"], meta["namespace"], meta["uid"])


def gather(kube: Kube, observer: Source, body: Object, now: float, nodes: Sequence[Node] | None = None) -> Snapshot:
    """Everything that a pass over the TransformerDeployment `body` looks at. Raises UserError for a spec that can't be read.

    `nodes` are the cluster's, None where they could not be read.
    """
    owner, spec, status = owner_of(body), parse_spec(body), parse_status(body)
    selector = f"{names.LABEL_DEPLOYMENT}={owner.name}"
    live = {Ref.of(item): item for kind in OWNED_KINDS for item in kube.items(kind, owner.namespace, selector)}
    service = live.get(Ref("Service", owner.namespace, owner.name))
    routes, missing = route_facts.find(kube, owner, spec.router, service)
    live = {**{Ref.of(item): item for item in routes}, **live}  # routes first: they go before what they lead to
    pods = kube.items("Pod", owner.namespace, selector)
    canary_since = unix(status.canary.since) if status.canary and status.canary.since else None
    step_since = unix(status.canary.step_started_at) if status.canary and status.canary.step_started_at else None
    latencies = [seconds(objective.latency) for objective in spec.slo.objectives if objective.latency]
    slo_since = now - seconds(spec.slo.window)
    stable_since = unix(status.stable.since) if status.stable and status.stable.since else None
    watch_since = stable_since if watched(spec.rollout, State.of(status)) else None
    mirror = status.canary.mirror if status.canary else None
    due = compare.due(status.experiment, now - observer.delay)
    contents = _contents(live)
    drift_since = watch_drift.due(spec.drift, status, now)

    def windows(since: float | None, until: float | None = None) -> Windows | Silence | None:
        if since is None:
            return None
        return _heard(observer.windows(owner.namespace, owner.name, since, latencies, until), spec)

    def mirrored(since: float | None) -> Windows | Silence | None:
        return None if since is None else _heard(observer.mirrored(owner.namespace, owner.name, since, latencies), spec)

    return Snapshot(
        now=now,
        owner=owner,
        generation=body["metadata"]["generation"],
        spec=spec,
        status=status,
        live=live,
        contents=contents,
        builds=_builds(kube, owner.namespace),
        servers=serving.servers(live, pods, contents, nodes),
        router=replace(serving.router(pods), routes=route_facts.seen(owner, spec.router, routes, missing)),
        inspection=_inspection(owner, spec, live, pods),
        poll=_job(polling.job_name(owner.name, status.model) if status.model else None, owner, live, pods),
        probe=_job(reprobe.job_name(owner.name, status.hardware), owner, live, pods),
        nodes=nodes,
        missing_claims=_missing_claims(kube, owner.namespace, spec, status),
        canary_windows=windows(canary_since),
        step_windows=windows(step_since),
        watch_windows=windows(watch_since),
        blame_windows=windows(afterwards.due(status)),
        mirror_windows=mirrored(unix(mirror.since) if mirror and mirror.until is None else None),
        slo_windows=windows(None if stable_since is None else slo_since),
        steering=steering(body),
        variants=_variants(kube, body, spec, status, live, pods),
        experiment_windows=windows(*due) if due else None,
        retraining=_job(retraining.job_name(owner.name, status), owner, live, pods),
        quality_windows=windows(quality.due(status, now)),
        drift_window=observer.drift(owner.namespace, owner.name, *drift_since) if drift_since else None,
        captured=capture.told(spec.capture, status.capture, pods, now),
    )


def _variants(
    kube: Kube,
    body: Object,
    spec: TransformerDeploymentSpec,
    status: TransformerDeploymentStatus,
    live: Mapping[Ref, Mapping[str, Any]],
    pods: Sequence[Object],
) -> dict[str, VariantSeen]:
    owner, found = owner_of(body), {}
    for name, own in variant_specs(spec).items():
        known = variant_status(status, own, name, body["metadata"]["generation"])
        missing = _missing_claims(kube, owner.namespace, own, known)
        poll = _job(polling.job_name(owner.name, known.model) if known.model else None, owner, live, pods)
        found[name] = VariantSeen(_inspection(owner, own, live, pods), missing, poll)
    return found


def _heard(windows: Windows | Silence, spec: TransformerDeploymentSpec) -> Windows | Silence:
    """A gateway whose traces go elsewhere looks like one without requests, so that it is told what may be missing.

    Without what the observer would have told, an experiment on it has no figures: that there were none would be wrong.
    """
    wanted = spec.experiment.metric if spec.experiment else None
    if isinstance(windows, Windows) and windows.missing and wanted in ("feedback", "confidence", "accuracy"):
        return Silence(windows.missing)
    if spec.router.type != "GatewayAPI" or isinstance(windows, Silence) or any(w.requests for w in windows.revisions):
        return windows
    return Silence(
        "no request through the gateway has reached the observer; where requests are sent, the gateway's traces don't carry "
        "tapchanger's attributes: connect them as docs/gateway.md says"
    )


def _contents(live: Mapping[Ref, Mapping[str, Any]]) -> dict[str, RevisionContent]:
    """What is known of each revision; one that another version stored differently is left running as it is."""
    found = {}
    for ref, item in live.items():
        if ref.kind != "ControllerRevision":
            continue
        try:
            content = RevisionContent.model_validate(item["data"])
        except ValidationError:
            log.warning("a stored revision can't be read", extra={"namespace": ref.namespace, "object": ref.name})
            continue
        found[content.revision] = content
    return found


def _builds(kube: Kube, namespace: str) -> dict[str, BuildSeen]:
    """The namespace's builds; one that can't be read says so in its own status and is no business of others."""
    found = {}
    for item in kube.items("EngineBuild", namespace):
        meta = item["metadata"]
        try:
            spec = EngineBuildSpec.model_validate(item["spec"])
            status = EngineBuildStatus.model_validate(item.get("status", {}))
        except ValidationError:
            continue
        owners = tuple(reference["uid"] for reference in meta.get("ownerReferences", []))
        found[meta["name"]] = BuildSeen(meta["name"], meta["uid"], owners, spec, status)
    return found


def _inspection(
    owner: Owner, spec: TransformerDeploymentSpec, live: Mapping[Ref, Mapping[str, Any]], pods: Sequence[Object]
) -> JobState | None:
    return _job(names.inspection(owner.name, inspection_key(spec)), owner, live, pods)


def _job(
    name: str | None, owner: Owner, live: Mapping[Ref, Mapping[str, Any]], pods: Sequence[Object]
) -> JobState | None:
    job = live.get(Ref("Job", owner.namespace, name)) if name else None
    return pod_facts.job_state(job, pod_facts.of_job(pods, str(name)), reasons.INSPECTION_FAILED) if job else None


def _missing_claims(
    kube: Kube, namespace: str, spec: TransformerDeploymentSpec, status: TransformerDeploymentStatus
) -> list[str]:
    """Asked only while the model is not known yet: later the claims are not needed."""
    if status.model and status.model.key == inspection_key(spec):
        return []
    return [claim for claim in claims(spec) if kube.get(Ref("PersistentVolumeClaim", namespace, claim)) is None]
