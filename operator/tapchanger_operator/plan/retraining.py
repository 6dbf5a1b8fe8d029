"""The objects of a retraining run: a ConfigMap with its inputs, and a Job that trains, or that tells a webhook."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from tapchanger_operator import names
from tapchanger_operator.api.base import GROUP, seconds
from tapchanger_operator.api.retraining import (
    RetrainingJob,
    RetrainingSpec,
    RetrainingWebhook,
    RunStatus,
    TemplateMetadata,
)
from tapchanger_operator.api.status import TransformerDeploymentStatus
from tapchanger_operator.names import Owner, Ref
from tapchanger_operator.plan.common import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    Manifest,
    empty_dir,
    labels,
    metadata,
    mount,
)
from tapchanger_operator.plan.store import secret_volume
from tapchanger_operator.resolve.identity import placement
from tapchanger_operator.settings import Images
from tapchanger_operator.snapshot import Snapshot
from tapchanger_serving.contract import names as contract
from tapchanger_serving.contract import retraining as told

KEPT_SECONDS: Final = 24 * 3600
"""How long a finished run's Job stays, for its log."""
WEBHOOK_SECONDS: Final = 1800
_WEBHOOK_CALLS: Final = 6
_INPUTS: Final = "tapchanger-run"
_TRAINER_SECURITY: Final[Manifest] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
_TRAINER_CONTAINER_SECURITY: Final[Manifest] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
"""What a trainer gets unless its template says otherwise; it may write to its own root."""
_NOTHING: Final = TemplateMetadata()
_UNDER_WAY: Final = ("Starting", "Running")


def objects(snapshot: Snapshot, images: Images) -> tuple[Manifest, ...]:
    """What the run that status tells of needs; nothing once it has trained."""
    spec, status = snapshot.spec.retraining, snapshot.status.retraining
    run = status.run if status else None
    if spec is None or run is None or run.phase not in _UNDER_WAY:
        return ()
    given = inputs(snapshot, run)
    job = spec.job
    made = _training(snapshot, spec, job, given) if job else _telling(snapshot, spec, given, images)
    return _config_map(snapshot.owner, run.name, given), made


def kept(snapshot: Snapshot) -> frozenset[Ref]:
    """What may stay of runs: Job and inputs of one that is under way, and Jobs that have ended until their time to live is over.

    A Job that still trains for a run which was given up goes.
    """
    status, owner = snapshot.status.retraining, snapshot.owner
    if snapshot.spec.retraining is None or status is None:
        return frozenset()
    past = (Ref("Job", owner.namespace, names.retraining(owner.name, run.name)) for run in status.runs)
    found = {ref for ref in past if ref in snapshot.live and _has_ended(snapshot.live[ref])}
    if status.run:
        name = names.retraining(owner.name, status.run.name)
        found.add(Ref("Job", owner.namespace, name))
        if status.run.phase in _UNDER_WAY:
            found.add(Ref("ConfigMap", owner.namespace, name))
    return frozenset(found)


def _has_ended(job: Mapping[str, Any]) -> bool:
    conditions = job.get("status", {}).get("conditions", [])
    return any(one["type"] in ("Complete", "Failed") and one.get("status") == "True" for one in conditions)


def job_name(deployment: str, status: TransformerDeploymentStatus) -> str | None:
    """The Job of the run that status tells of."""
    run = status.retraining.run if status.retraining else None
    return names.retraining(deployment, run.name) if run else None


def inputs(snapshot: Snapshot, run: RunStatus) -> told.RunInputs:
    """All that the run is told. It is made from status alone, so that it stays the same while the run is under way."""
    given = run.inputs
    return told.RunInputs(
        run=run.name,
        trigger=run.trigger,
        namespace=snapshot.owner.namespace,
        deployment=snapshot.owner.name,
        model=told.RunModel(
            uri=given.uri,
            digest=given.model,
            task=snapshot.spec.model.task,
            revision=given.revision,
            build=given.build,
        ),
        output=given.uri,
        reference=told.RunReference(uri=given.reference, artifact=given.artifact),
        capture=given.capture,
        drift=given.drift,
    )


def _config_map(owner: Owner, run: str, given: told.RunInputs) -> Manifest:
    data = {told.RUN_FILE: given.dumps()}
    if given.drift:
        data[told.DRIFT_FILE] = given.drift.dumps()
    meta = metadata(owner, names.retraining(owner.name, run), _labels(owner, run))
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def _labels(owner: Owner, run: str) -> dict[str, str]:
    return labels(owner, names.COMPONENT_RETRAIN, run=run)


def _training(snapshot: Snapshot, spec: RetrainingSpec, job: RetrainingJob, given: told.RunInputs) -> Manifest:
    """The user's pod, with the inputs mounted and the least rights that it does not ask for itself."""
    user = job.template.spec
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        **user,
        "securityContext": {**_TRAINER_SECURITY, **user.get("securityContext", {})},
        "containers": [_trainer(one, given) for one in user["containers"]],
        "volumes": [*user.get("volumes", []), _inputs_volume(snapshot.owner, given.run)],
    }
    if user.get("initContainers"):
        pod["initContainers"] = [_trainer(one, given) for one in user["initContainers"]]
    template = job.template.metadata
    return _job(
        snapshot.owner,
        given.run,
        pod,
        deadline=math.ceil(seconds(spec.timeout)),
        backoff_limit=job.backoff_limit,
        own=job.metadata,
        template=template,
    )


def _trainer(container: dict[str, Any], given: told.RunInputs) -> Manifest:
    result = container.get("terminationMessagePath", contract.TERMINATION_LOG)
    own = {entry["name"] for entry in container.get("env", []) if isinstance(entry, dict) and "name" in entry}
    added = [{"name": name, "value": value} for name, value in _environment(given, result).items() if name not in own]
    return {
        **container,
        "terminationMessagePath": result,
        "securityContext": {**_TRAINER_CONTAINER_SECURITY, **container.get("securityContext", {})},
        "env": [*added, *container.get("env", [])],
        "volumeMounts": [*container.get("volumeMounts", []), mount(_INPUTS, told.RUN_DIR, read_only=True)],
    }


def _environment(given: told.RunInputs, result: str) -> dict[str, str]:
    values: dict[str, str | None] = {
        told.ENV_RUN: given.run,
        told.ENV_TRIGGER: given.trigger,
        told.ENV_RUN_NAMESPACE: given.namespace,
        told.ENV_DEPLOYMENT: given.deployment,
        told.ENV_RUN_FILE: f"{told.RUN_DIR}/{told.RUN_FILE}",
        told.ENV_MODEL_URI: given.model.uri,
        told.ENV_MODEL_DIGEST: given.model.digest,
        told.ENV_OUTPUT_URI: given.output,
        told.ENV_REFERENCE_URI: given.reference.uri,
        told.ENV_CAPTURE_URI: given.capture,
        told.ENV_DRIFT_FILE: f"{told.RUN_DIR}/{told.DRIFT_FILE}" if given.drift else None,
        told.ENV_RESULT: result,
    }
    return {name: value for name, value in values.items() if value}


def _telling(snapshot: Snapshot, spec: RetrainingSpec, given: told.RunInputs, images: Images) -> Manifest:
    """A small pod that calls the webhook. The Secret is mounted there, so that the operator never reads it."""
    webhook = spec.webhook or RetrainingWebhook(url="")
    values: dict[str, str | None] = {
        told.ENV_RUN_FILE: f"{told.RUN_DIR}/{told.RUN_FILE}",
        told.ENV_WEBHOOK_URL: webhook.url,
        told.ENV_WEBHOOK_TIMEOUT: f"{seconds(webhook.timeout):g}",
        told.ENV_WEBHOOK_SECRET: webhook.secret_name,
    }
    mounts = [mount(_INPUTS, told.RUN_DIR, read_only=True), mount("tmp", "/tmp")]  # noqa: S108 - the pod's own
    volumes = [_inputs_volume(snapshot.owner, given.run), empty_dir("tmp")]
    if webhook.secret_name:
        mounts.append(mount("webhook", told.WEBHOOK_SECRET_DIR, read_only=True))
        volumes.append(secret_volume("webhook", webhook.secret_name))
    where = placement(snapshot.spec.serving.template)
    pod: Manifest = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        **{key: where[key] for key in ("nodeSelector", "tolerations", "imagePullSecrets") if key in where},
        "containers": [
            {
                "name": "webhook",
                "image": images.server,
                "imagePullPolicy": images.pull_policy,
                "command": ["python3", "-m", "tapchanger_serving.webhook"],
                "env": [{"name": name, "value": value} for name, value in values.items() if value],
                "securityContext": CONTAINER_SECURITY,
                "terminationMessagePath": contract.TERMINATION_LOG,
                "terminationMessagePolicy": "File",
                "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
                "volumeMounts": mounts,
            }
        ],
        "volumes": volumes,
    }
    deadline = max(WEBHOOK_SECONDS, math.ceil(_WEBHOOK_CALLS * seconds(webhook.timeout)) + 300)
    return _job(snapshot.owner, given.run, pod, deadline=deadline, backoff_limit=0)


def _inputs_volume(owner: Owner, run: str) -> Manifest:
    return {"name": _INPUTS, "configMap": {"name": names.retraining(owner.name, run)}}


def _job(
    owner: Owner,
    run: str,
    pod: Manifest,
    *,
    deadline: int,
    backoff_limit: int,
    own: TemplateMetadata = _NOTHING,
    template: TemplateMetadata = _NOTHING,
) -> Manifest:
    labelled = _labels(owner, run)
    meta = metadata(owner, names.retraining(owner.name, run), {**_users(own.labels), **labelled})
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**meta, **_annotated(own)},
        "spec": {
            "backoffLimit": backoff_limit,
            "activeDeadlineSeconds": deadline,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "podReplacementPolicy": "Failed",
            "template": {
                "metadata": {"labels": {**_users(template.labels), **labelled}, **_annotated(template)},
                "spec": pod,
            },
        },
    }


def _users(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels without those by which the operator finds its own."""
    return {label: value for label, value in labels.items() if not label.startswith(f"{GROUP}/")}


def _annotated(template: TemplateMetadata) -> Manifest:
    return {"annotations": template.annotations} if template.annotations else {}
