"""The router: Envoy pods, their configuration and the Service that applications call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tapchanger_operator import names
from tapchanger_operator.api.spec import RouterSpec
from tapchanger_operator.names import Owner
from tapchanger_operator.plan import envoy
from tapchanger_operator.plan.common import (
    CONTAINER_SECURITY,
    DRAIN_SECONDS,
    OBSERVER_TOKEN,
    POD_SECURITY,
    Manifest,
    empty_dir,
    labels,
    metadata,
    mount,
    observer_token,
    spread,
)
from tapchanger_operator.settings import Images
from tapchanger_serving.contract import names as contract


def leave_command(seconds: float, admin_port: int = envoy.ADMIN_PORT) -> list[str]:
    """What a router does before it is ended: it tells each client with its next answer to connect elsewhere, and waits.

    Envoy breaks off what is under way when it is ended, and clients hold their connections for hours. One that fails its health
    check closes them in order: `Connection: close` over HTTP/1, GOAWAY over gRPC.
    """
    order = r"POST /healthcheck/fail HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    tell = f"exec 3<>/dev/tcp/127.0.0.1/{admin_port}; printf '{order}' >&3; cat <&3"
    return ["bash", "-c", f"({tell}); sleep {seconds:g}"]


def config_hash(files: Mapping[str, str]) -> str:
    """Hash of a configuration, by which it is seen whether a router pod has been told of it."""
    return names.content_hash(dict(files), 16)


def config_map(owner: Owner, files: Mapping[str, str]) -> Manifest:
    """ConfigMap with Envoy's files."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(owner, names.router(owner.name), labels(owner, names.COMPONENT_ROUTER)),
        "data": dict(files),
    }


def service(owner: Owner, stable: str | None = None, *, marked: bool = False) -> Manifest:
    """Service named like the deployment: where applications go.

    It leads to the routers, or to the servers of revision `stable` where a gateway routes. `marked`: there may be routes.
    """
    own_labels = labels(owner, names.COMPONENT_ROUTER)
    annotations = {names.ANNOTATION_ROUTES: "true"} if marked else {}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(owner, owner.name, own_labels, **annotations),
        "spec": {
            "selector": own_labels if stable is None else labels(owner, names.COMPONENT_SERVER, revision=stable),
            "ports": [
                {"name": "http", "port": contract.HTTP_PORT, "targetPort": "http", "appProtocol": "http"},
                {"name": "grpc", "port": contract.GRPC_PORT, "targetPort": "grpc", "appProtocol": "grpc"},
            ],
        },
    }


def disruption_budget(owner: Owner) -> Manifest:
    """Voluntary evictions take one router at a time."""
    own_labels = labels(owner, names.COMPONENT_ROUTER)
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(owner, names.router(owner.name), own_labels),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": own_labels}},
    }


def deployment(
    owner: Owner,
    spec: RouterSpec,
    bootstrap: str,
    images: Images,
    pull_secrets: Sequence[Manifest] = (),
    *,
    observer_auth: bool = True,
) -> Manifest:
    """Envoy pods. They restart only when the bootstrap, the image or the resources change.

    With `observer_auth` they have a token for the observer.
    """
    own_labels = labels(owner, names.COMPONENT_ROUTER)
    probe: Manifest = {"httpGet": {"path": "/ready", "port": "health"}, "periodSeconds": 2, "failureThreshold": 3}
    container = {
        "name": "envoy",
        "image": images.router,
        "imagePullPolicy": images.pull_policy,
        "command": ["envoy"],
        "args": [
            "-c", f"{envoy.CONFIG_DIR}/bootstrap.json",
            "--disable-hot-restart", "--concurrency", "2", "--log-level", "warning",
        ],
        "ports": [
            {"name": "http", "containerPort": contract.HTTP_PORT},
            {"name": "grpc", "containerPort": contract.GRPC_PORT},
            {"name": "health", "containerPort": contract.ROUTER_HEALTH_PORT},
        ],
        "resources": spec.resources or {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "readinessProbe": probe,
        "livenessProbe": {**probe, "periodSeconds": 10, "failureThreshold": 6},
        "lifecycle": {"preStop": {"exec": {"command": leave_command(DRAIN_SECONDS)}}},
        "volumeMounts": [
            mount("config", envoy.CONFIG_DIR, read_only=True),
            mount("tmp", "/tmp"),  # noqa: S108 - a volume of the pod's own
            *([mount(OBSERVER_TOKEN, contract.OBSERVER_TOKEN_DIR, read_only=True)] if observer_auth else []),
        ],
    }  # fmt: skip
    template_labels = {
        "metadata": {
            "labels": own_labels,
            "annotations": {"tapchanger.dev/bootstrap": names.content_hash(bootstrap, 16)},
        }
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(owner, names.router(owner.name), own_labels),
        "spec": {
            "replicas": spec.replicas,
            "revisionHistoryLimit": 1,
            "selector": {"matchLabels": own_labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                **template_labels,
                "spec": {
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": POD_SECURITY,
                    "terminationGracePeriodSeconds": 45,
                    "topologySpreadConstraints": spread(own_labels),
                    **({"imagePullSecrets": list(pull_secrets)} if pull_secrets else {}),
                    "containers": [container],
                    "volumes": [
                        {"name": "config", "configMap": {"name": names.router(owner.name)}},
                        empty_dir("tmp"),
                        *([observer_token()] if observer_auth else []),
                    ],
                },
            },
        },
    }
