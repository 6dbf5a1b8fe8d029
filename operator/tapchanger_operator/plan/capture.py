"""What `spec.capture` makes: a sidecar in servers' pods that redacts and stores texts, and the Job that deletes them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from tapchanger_operator import names
from tapchanger_operator.api.base import seconds
from tapchanger_operator.api.capture import CapturePlace, CaptureSpec
from tapchanger_operator.names import Owner
from tapchanger_operator.plan.common import CONTAINER_SECURITY, POD_SECURITY, Manifest, empty_dir, mount
from tapchanger_operator.plan.store import secret_volume
from tapchanger_operator.settings import Settings
from tapchanger_serving.contract import capture as contract
from tapchanger_serving.contract import names as common

_COMMAND = ["python3", "-m", "tapchanger_serving.capture"]
_SOCKET, _SPOOL, _SECRET, _CLAIM = "capture", "capture-spool", "capture-credentials", "captured"
_JOB_SECONDS = 3600
_KEPT_SECONDS = 24 * 3600
_PORTS = {"http": 80, "https": 443}


def sampling(capture: CaptureSpec, revision: str) -> list[Manifest]:
    """Variables of the tritonserver container."""
    consent = contract.Consent(header=capture.consent.header, mode=capture.consent.mode)
    told = contract.Sampling(
        revision=revision, share=capture.sample, per_minute=capture.max_per_minute, consent=consent
    )
    return [{"name": contract.ENV_SAMPLING, "value": told.dumps()}]


def socket_mount() -> Manifest:
    """By which the server reaches the sidecar."""
    return mount(_SOCKET, contract.SOCKET_DIR)


def sidecar(owner: Owner, capture: CaptureSpec, revision: str, settings: Settings) -> Manifest:
    """The capturing container. As a native sidecar it ends after the server, whose last texts it still stores."""
    place = place_of(owner, capture)
    order = _order(place).model_copy(
        update={
            "revision": revision,
            "encryption": contract.Encryption(
                type=capture.destination.encryption.type,
                kms_key=capture.destination.encryption.kms_key or "",
                recipients=tuple(capture.destination.encryption.recipients),
            ),
            "redaction": contract.Redaction(
                kinds=tuple(capture.redact.kinds),
                names=capture.redact.names,
                unclear=capture.redact.unclear,
                regions=tuple(capture.redact.regions),
            ),
        }
    )
    return {
        "name": "capture",
        "image": settings.images.capture,
        "imagePullPolicy": settings.images.pull_policy,
        "restartPolicy": "Always",
        "command": list(_COMMAND),
        "env": [
            {"name": contract.ENV_POD, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
            {"name": contract.ENV_ORDER, "value": order.dumps()},
        ],
        "ports": [{"name": "capture", "containerPort": contract.METRICS_PORT}],
        "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            socket_mount(),
            mount(_SPOOL, contract.SPOOL_DIR),
            *_place_mounts(place),
        ],
    }


def volumes(owner: Owner, capture: CaptureSpec) -> list[Manifest]:
    """Of the pod: texts wait in memory only."""
    return [
        empty_dir(_SOCKET, memory=True, size="1Mi"),
        empty_dir(_SPOOL, memory=True, size="64Mi"),
        *_place_volumes(place_of(owner, capture)),
    ]


def ports(capture: CaptureSpec) -> list[int]:
    """TCP ports at which the destination answers; none for a volume."""
    if capture.destination.claim:
        return []
    endpoint = urlsplit(capture.destination.endpoint or "")
    return [endpoint.port or _PORTS.get(endpoint.scheme, 443)]


def place_of(owner: Owner, capture: CaptureSpec) -> CapturePlace:
    """Where the deployment's texts go."""
    return CapturePlace(
        prefix=contract.location(owner.namespace, owner.name, capture),
        retention=capture.retention,
        endpoint=capture.destination.endpoint or "",
        secret_name=capture.destination.secret_name or "",
    )


def retention_job(owner: Owner, place: CapturePlace, day: int, settings: Settings) -> Manifest:
    """The Job that deletes what is too old at one place; `day` tells one from the next.

    Without the deployment's label, by which it would be taken for one of the deployment's parts.
    """
    own_labels = {names.LABEL_MANAGED_BY: names.MANAGER, names.LABEL_COMPONENT: names.COMPONENT_RETAIN}
    container = {
        "name": "retain",
        "image": settings.images.capture,
        "imagePullPolicy": settings.images.pull_policy,
        "command": list(_COMMAND),
        "args": ["retain"],
        "env": [{"name": contract.ENV_ORDER, "value": _order(place).dumps()}],
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePath": common.TERMINATION_LOG,
        "terminationMessagePolicy": "File",
        "volumeMounts": [mount("tmp", "/tmp"), *_place_mounts(place)],  # noqa: S108 - a volume of the pod's own
    }
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "containers": [container],
        "volumes": [empty_dir("tmp"), *_place_volumes(place)],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.retention(owner.name, place.prefix, day),
            "namespace": owner.namespace,
            "labels": own_labels,
            "ownerReferences": [owner.reference()],
        },
        "spec": {
            "backoffLimit": 2,
            "activeDeadlineSeconds": _JOB_SECONDS,
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
            "template": {"metadata": {"labels": own_labels}, "spec": pod},
        },
    }


def _order(place: CapturePlace) -> contract.Order:
    return contract.Order(
        prefix=place.prefix,
        endpoint=place.endpoint,
        secret=place.secret_name,
        encryption=contract.Encryption(type="None"),
        retention_seconds=seconds(place.retention),
    )


def _claim(place: CapturePlace) -> str | None:
    found = re.match(r"pvc://([^/]+)/", place.prefix)
    return found[1] if found else None


def _place_mounts(place: CapturePlace) -> list[Manifest]:
    if _claim(place):
        return [mount(_CLAIM, contract.DESTINATION_DIR)]
    return [mount(_SECRET, contract.CREDENTIALS_DIR, read_only=True)] if place.secret_name else []


def _place_volumes(place: CapturePlace) -> list[Manifest]:
    claim = _claim(place)
    if claim:
        return [{"name": _CLAIM, "persistentVolumeClaim": {"claimName": claim}}]
    return [secret_volume(_SECRET, place.secret_name)] if place.secret_name else []
