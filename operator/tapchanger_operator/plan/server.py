"""One revision: Triton pods, their headless Service, and the content from which both can be rendered again."""

from __future__ import annotations

from tapchanger_operator import names
from tapchanger_operator.api.capture import CaptureSpec
from tapchanger_operator.names import Owner
from tapchanger_operator.plan import capture as capturing
from tapchanger_operator.plan import store as stores
from tapchanger_operator.plan.common import (
    CONTAINER_SECURITY,
    DRAIN_SECONDS,
    OBSERVER_TOKEN,
    OBSERVER_TOKEN_PATH,
    POD_SECURITY,
    Manifest,
    empty_dir,
    labels,
    metadata,
    mount,
    node_affinity,
    observer_token,
    spread,
)
from tapchanger_operator.resolve.identity import RevisionContent
from tapchanger_operator.resolve.needs import requirements
from tapchanger_operator.settings import Settings, Store
from tapchanger_serving.contract import names as contract
from tapchanger_serving.contract.messages import Hardware

TRACE_RATE = 10
"""One in so many requests of a busy server gets the server's spans; the router's spans, which decide, are complete."""
WHERE = {
    "NODE_NAME": ("spec.nodeName", contract.ATTR_NODE),
    "POD_NAME": ("metadata.name", contract.ATTR_POD),
}
"""What a pod is told of itself: variable → (field, resource attribute of its spans). The kubelet fills in `$(NODE_NAME)`."""
_PASSED_ON = (
    "nodeSelector", "tolerations", "imagePullSecrets", "serviceAccountName", "priorityClassName", "runtimeClassName",
)  # fmt: skip


def revision_object(owner: Owner, content: RevisionContent) -> Manifest:
    """ControllerRevision that keeps the content of a revision."""
    revision = content.revision
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata(
            owner,
            names.server(owner.name, revision),
            labels(owner, names.COMPONENT_REVISION, revision=revision, build=content.build),
        ),
        "revision": 1,
        "data": content.wire(),
    }


def service(owner: Owner, revision: str) -> Manifest:
    """Headless Service of one revision: the router resolves it to the pods that are ready."""
    own_labels = labels(owner, names.COMPONENT_SERVER, revision=revision)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(owner, names.server(owner.name, revision), own_labels),
        "spec": {
            "clusterIP": "None",
            "selector": own_labels,
            "ports": [
                {"name": "http", "port": contract.HTTP_PORT, "targetPort": "http", "appProtocol": "http"},
                {"name": "grpc", "port": contract.GRPC_PORT, "targetPort": "grpc", "appProtocol": "grpc"},
                {"name": "metrics", "port": contract.METRICS_PORT, "targetPort": "metrics", "appProtocol": "http"},
            ],
        },
    }


def deployment(
    owner: Owner, content: RevisionContent, replicas: int, settings: Settings, capture: CaptureSpec | None = None
) -> Manifest:
    """The Triton pods of one revision. Only `replicas` may change in its life, and whether texts are captured."""
    revision = content.revision
    capture = capture if settings.images.capture else None
    template = content.template
    selector = labels(owner, names.COMPONENT_SERVER, revision=revision)
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "terminationGracePeriodSeconds": template.get("terminationGracePeriodSeconds", 60),
        "affinity": node_affinity(
            requirements(content.runtime, content.hardware or Hardware(arch=content.arch)), template.get("affinity", {})
        ),
        "topologySpreadConstraints": template.get("topologySpreadConstraints", spread(selector)),
        **{key: template[key] for key in _PASSED_ON if key in template},
        "initContainers": [
            _repository_container(owner, content, settings),
            *([capturing.sidecar(owner, capture, revision, settings)] if capture else []),
        ],
        "containers": [_triton_container(owner, content, settings, capture)],
        "volumes": [
            *_store_volumes(settings.store),
            empty_dir("repository"),
            empty_dir("tmp"),
            empty_dir("shm", memory=True, size="256Mi"),
            *([observer_token()] if settings.observer_auth else []),
            *(capturing.volumes(owner, capture) if capture else []),
            *template.get("volumes", []),
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(owner, names.server(owner.name, revision), selector),
        "spec": {
            "replicas": replicas,
            "minReadySeconds": 2,
            "progressDeadlineSeconds": 900,
            "revisionHistoryLimit": 1,
            "selector": {"matchLabels": selector},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {
                    "labels": {**template.get("labels", {}), **selector},
                    **({"annotations": template["annotations"]} if "annotations" in template else {}),
                },
                "spec": pod,
            },
        },
    }


def _repository_container(owner: Owner, content: RevisionContent, settings: Settings) -> Manifest:
    """Brings the artifact here if it lies elsewhere, checks its digest and the node's hardware, and lays out the repository."""
    store = settings.store
    return {
        **_devices(content),
        "name": "repository",
        "image": content.image,
        "imagePullPolicy": settings.images.pull_policy,
        "command": ["python3", "-m", "tapchanger_serving.repository"],
        "args": [
            "--store", stores.location(store, owner.namespace) or contract.STORE_DIR,
            "--digest", content.artifact,
            "--name", owner.name,
            "--output", contract.REPOSITORY_DIR,
            "--max-batch", str(content.max_batch_size),
            "--queue-delay-us", str(content.queue_delay_us),
        ],
        **({"env": stores.environment(store, owner.namespace)} if store.uri else {}),
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            *(stores.secret_mounts(store) if store.uri else [mount("store", contract.STORE_DIR, read_only=True)]),
            mount("repository", contract.REPOSITORY_DIR),
            mount("tmp", "/tmp"),  # noqa: S108 - a volume of the pod's own
        ],
    }  # fmt: skip


def _store_volumes(store: Store) -> list[Manifest]:
    if store.uri:
        return stores.secret_volumes(store)
    return [{"name": "store", "persistentVolumeClaim": {"claimName": names.STORE_CLAIM, "readOnly": True}}]


def _devices(content: RevisionContent) -> Manifest:
    """What makes a GPU visible. Init containers get the pod's own devices first, so that they cost nothing."""
    if content.hardware is None or content.hardware.gpu is None:
        return {}
    limits = content.template.get("resources", {}).get("limits", {})
    devices = {name: amount for name, amount in limits.items() if "/" in name}
    return {"resources": {"limits": devices}} if devices else {}


def triton_arguments(owner: Owner, revision: str, settings: Settings) -> list[str]:
    """Arguments of tritonserver."""
    resource = {
        contract.ATTR_NAMESPACE: owner.namespace,
        contract.ATTR_DEPLOYMENT: owner.name,
        contract.ATTR_REVISION: revision,
        contract.ATTR_COMPONENT: contract.COMPONENT_SERVER,
        "service.name": owner.name,
        **{attribute: f"$({variable})" for variable, (_, attribute) in WHERE.items()},
    }
    return [
        f"--model-repository={contract.REPOSITORY_DIR}",
        f"--http-port={contract.HTTP_PORT}",
        f"--grpc-port={contract.GRPC_PORT}",
        f"--metrics-port={contract.METRICS_PORT}",
        "--exit-timeout-secs=20",
        "--disable-auto-complete-config",
        "--trace-config=mode=opentelemetry",
        f"--trace-config=rate={TRACE_RATE}",
        "--trace-config=level=TIMESTAMPS",
        "--trace-config=opentelemetry,bsp_schedule_delay=500",
        f"--trace-config=opentelemetry,url=http://{settings.spans_host}:{contract.OTLP_HTTP_PORT}/v1/traces",
        *[f"--trace-config=opentelemetry,resource={key}={value}" for key, value in resource.items()],
    ]


def _triton_container(
    owner: Owner, content: RevisionContent, settings: Settings, capture: CaptureSpec | None
) -> Manifest:
    def probe(path: str, **settings: int) -> Manifest:
        return {"httpGet": {"path": path, "port": "http"}, "timeoutSeconds": 5, **settings}

    return {
        "name": "triton",
        "image": content.image,
        "imagePullPolicy": settings.images.pull_policy,
        "command": ["tritonserver"],
        "args": triton_arguments(owner, content.revision, settings),
        "env": [
            {"name": variable, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
            for variable, (path, _) in WHERE.items()
        ]
        + ([{"name": contract.ENV_OBSERVER_TOKEN, "value": OBSERVER_TOKEN_PATH}] if settings.observer_auth else [])
        + (capturing.sampling(capture, content.revision) if capture else []),
        "ports": [
            {"name": "http", "containerPort": contract.HTTP_PORT},
            {"name": "grpc", "containerPort": contract.GRPC_PORT},
            {"name": "metrics", "containerPort": contract.METRICS_PORT},
        ],
        "resources": content.template.get("resources", {"requests": {"cpu": "500m", "memory": "512Mi"}}),
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "startupProbe": probe("/v2/health/ready", periodSeconds=1, failureThreshold=600),
        "readinessProbe": probe("/v2/health/ready", periodSeconds=2, failureThreshold=3),
        "livenessProbe": probe("/v2/health/live", periodSeconds=10, failureThreshold=6),
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN_SECONDS}}},
        "volumeMounts": [
            mount("repository", contract.REPOSITORY_DIR, read_only=True),
            mount("tmp", "/tmp"),  # noqa: S108 - a volume of the pod's own
            mount("shm", "/dev/shm"),  # noqa: S108 - a volume of the pod's own
            *([mount(OBSERVER_TOKEN, contract.OBSERVER_TOKEN_DIR, read_only=True)] if settings.observer_auth else []),
            *([capturing.socket_mount()] if capture else []),
            *content.template.get("volumeMounts", []),
        ],
    }
