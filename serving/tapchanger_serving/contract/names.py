"""Names, ports, paths and attributes that both sides use. Clients and dashboards rely on them: they do not change."""

from typing import Final

# Ports of a served model, the same on the router's Service and on every Triton pod.
HTTP_PORT: Final = 8000
GRPC_PORT: Final = 8001
METRICS_PORT: Final = 8002
ROUTER_HEALTH_PORT: Final = 8003
"""Envoy's own listener for `/ready` and `/stats/prometheus`; it never carries user traffic."""

# Ports of the observer.
OTLP_GRPC_PORT: Final = 4317
OTLP_HTTP_PORT: Final = 4318
OBSERVER_API_PORT: Final = 4319
"""`/v1/windows`, `/v1/feedback`, `/metrics`, `/healthz`."""
OBSERVER_AUDIENCE: Final = "tapchanger-observer"
"""The audience of the service account tokens by which the observer knows who tells it something."""

ENGINE_SUFFIX: Final = "-engine"
"""Model `<name>` takes text; model `<name>-engine` is the raw engine."""

# Tensors (KServe v2 / Open Inference Protocol).
TEXT: Final = "text"
TEXT_PAIR: Final = "text_pair"
LABEL: Final = "label"
SCORE: Final = "score"
SCORES: Final = "scores"
ENTITIES: Final = "entities"
EMBEDDING: Final = "embedding"
INPUT_IDS: Final = "input_ids"
ATTENTION_MASK: Final = "attention_mask"
TOKEN_TYPE_IDS: Final = "token_type_ids"  # noqa: S105 - the name of a tensor
LOGITS: Final = "logits"
"""Raw engine output of classification heads, `[batch, labels]` or `[batch, tokens, labels]`."""
HIDDEN: Final = "hidden"
"""Raw engine output of feature extraction, `[batch, tokens, dim]`; pooling is post-processing."""

REVISION_HEADER: Final = "x-tapchanger-revision"
"""Response header (gRPC: initial metadata) that names the revision which answered."""
NAMESPACE_HEADER: Final = "x-tapchanger-namespace"
DEPLOYMENT_HEADER: Final = "x-tapchanger-deployment"
"""Request headers that a gateway's route sets, with the revision's, so that the gateway can put them on its spans."""
REQUEST_START_HEADER: Final = "x-request-start"
"""Request header `t=SECONDS.FRACTION` from router to server: when the router got the request. Waiting is counted from it."""
TRACEPARENT_HEADER: Final = "traceparent"
"""Request header with the W3C trace context: the server's spans become children of the router's."""
MIRROR_HEADER: Final = "x-tapchanger-mirror"
"""Request header from router to server on a request that is copied to a canary: the canary's revision. The original has it as
well as the copy, so that both servers tell what they answered."""

# Span and resource attributes.
ATTR_NAMESPACE: Final = "tapchanger.namespace"
ATTR_DEPLOYMENT: Final = "tapchanger.deployment"
ATTR_REVISION: Final = "tapchanger.revision"
ATTR_COMPONENT: Final = "tapchanger.component"
"""`router` on Envoy's spans (what the user felt), `server` on Triton's."""
ATTR_TOKENS: Final = "tapchanger.tokens"
"""On the span of a text model: tokens of the request, an integer. Of a text a span holds numbers only."""
ATTR_CONFIDENCE: Final = "tapchanger.confidence"
"""On the same span, of classification: the mean score of the labels that were answered, to three digits."""
ATTR_LABEL: Final = "tapchanger.label"
"""On the same span, of classification: the label that was answered to the text that `tapchanger.drift` describes."""
ATTR_ANSWERED: Final = "tapchanger.answered"
"""On the same span, of classification: label and score that each of the request's first sixteen texts was answered with, as JSON
`[["safe", 0.982]]`, so that a label which comes later can be laid beside it."""
ATTR_OOV: Final = "tapchanger.oov"
"""On the same span: share of that text's tokens that the tokenizer does not know or that the reference hardly has."""
ATTR_DRIFT: Final = "tapchanger.drift"
"""On the same span: what one of the request's texts is like, in numbers (:mod:`tapchanger_serving.contract.drift`)."""
ATTR_DRIFT_REFERENCE: Final = "tapchanger.drift.reference"
"""On one such span a minute: what the texts of the reference were like, which the artifact holds."""
ATTR_BATCH: Final = "tapchanger.batch"
"""On the same span: texts in the batch that the request was answered in."""
ATTR_PRE: Final = "tapchanger.preprocess.duration"
ATTR_COMPUTE: Final = "tapchanger.compute.duration"
ATTR_POST: Final = "tapchanger.postprocess.duration"
"""On the same span: seconds that the batch spent on tokenizing and padding, in the engine, and on making answers."""
ATTR_MIRROR: Final = "tapchanger.mirror"
"""On the same span, where the request was copied: the revision that got the copy."""
ATTR_ANSWERS: Final = "tapchanger.answers"
"""On the same span, where the request was copied and answered: what was answered, as
:mod:`tapchanger_serving.contract.mirror` says. It holds labels, never texts."""
ATTR_NODE: Final = "k8s.node.name"
ATTR_POD: Final = "k8s.pod.name"
"""Resource attributes of servers, by OpenTelemetry's semantic conventions for Kubernetes."""
COMPONENT_ROUTER: Final = "router"
COMPONENT_SERVER: Final = "server"

# Paths inside containers.
STORE_DIR: Final = "/store"
"""The artifact volume: `artifacts/sha256-<hex>/`, `reports/<build>.{json,html,md}`, `models/sha256-<hex>/` (fetched models)."""
CLAIMS_DIR: Final = "/claims"
"""`pvc://CLAIM/path` is mounted read-only, so that it reads `/claims/CLAIM/path`."""
OBSERVER_TOKEN_DIR: Final = "/var/run/secrets/tapchanger-observer"  # noqa: S105 - a folder
OBSERVER_TOKEN_FILE: Final = "token"  # noqa: S105 - a file's name
ENV_OBSERVER_TOKEN: Final = "TAPCHANGER_OBSERVER_TOKEN"  # noqa: S105 - a variable's name
"""The file of the pod's token for the observer, which the kubelet renews: where it is mounted, and the variable that says so."""
CREDENTIALS_DIR: Final = "/credentials"
"""The Secret of `model.credentials`, read-only, in the containers that fetch and in no other."""
STORE_CREDENTIALS_DIR: Final = "/store-credentials"
"""The Secret of the artifact store, read-only, in the containers that write or read it and in no other."""
WORK_DIR: Final = "/work"
"""Scratch shared by the steps of one build."""
REPOSITORY_DIR: Final = "/repository"
"""The Triton model repository that a pod's init container lays out."""
TERMINATION_LOG: Final = "/dev/termination-log"

# Environment of build steps.
ENV_BUILD_REQUEST: Final = "TAPCHANGER_BUILD_REQUEST"
"""JSON of :class:`tapchanger_serving.contract.messages.BuildRequest`."""
ENV_CREDENTIALS: Final = "TAPCHANGER_CREDENTIALS"
"""The name of the Secret that is mounted at :data:`CREDENTIALS_DIR`; unset where there is none."""
ENV_STORE_DIR: Final = "TAPCHANGER_STORE_DIR"
ENV_STORE_URI: Final = "TAPCHANGER_STORE_URI"
"""`s3://bucket/prefix/NAMESPACE` or `oci://registry/repository/NAMESPACE`; unset where the store is the volume."""
ENV_STORE_ENDPOINT: Final = "TAPCHANGER_STORE_ENDPOINT"
"""Where an S3 store answers that is not the provider's own."""
ENV_STORE_CREDENTIALS: Final = "TAPCHANGER_STORE_CREDENTIALS"
"""The name of the Secret that is mounted at :data:`STORE_CREDENTIALS_DIR`; unset where there is none."""
ENV_STORE_CREDENTIALS_DIR: Final = "TAPCHANGER_STORE_CREDENTIALS_DIR"
ENV_CLAIMS_DIR: Final = "TAPCHANGER_CLAIMS_DIR"
ENV_WORK_DIR: Final = "TAPCHANGER_WORK_DIR"
ENV_CREDENTIALS_DIR: Final = "TAPCHANGER_CREDENTIALS_DIR"
ENV_TERMINATION_LOG: Final = "TAPCHANGER_TERMINATION_LOG"
"""Where a step finds what a pod mounts, for runs outside a cluster; by default the paths above."""
UNCHANGED_MARKER: Final = "unchanged"
"""File that step `fetch` leaves in the scratch folder where the store holds the finished build already."""
ENV_COLLECTION: Final = "TAPCHANGER_COLLECTION"
"""JSON of :class:`tapchanger_serving.contract.messages.Collection`."""
EXIT_USER_ERROR: Final = 42
"""Exit code of a step that can't succeed until the user changes something: the Job is not retried."""
EXIT_ARTIFACT_DAMAGED: Final = 43
"""Exit code of a server's init container that found no artifact, or another than its digest says: it must be built again."""
EXIT_ENGINE_INCOMPATIBLE: Final = 44
"""Exit code of a server's init container on a node that lacks what the engine was built for; another node may have it."""
