"""``spec`` of a TransformerDeployment: what to serve and how good it must be."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator

from tapchanger_operator.api.base import (
    ATTEMPT,
    URI_HELP,
    URI_PATTERN,
    Attempt,
    Duration,
    FreeForm,
    Model,
    PollInterval,
    joined,
    rules,
)
from tapchanger_operator.api.capture import CaptureSpec
from tapchanger_operator.api.credentials import Credentials
from tapchanger_operator.api.drift import DriftSpec
from tapchanger_operator.api.experiment import SPEC_RULES, VARIANTS_RULES, Experiment, Variant
from tapchanger_operator.api.retraining import RETRAINING_RULES, RetrainingSpec
from tapchanger_operator.api.rollout import RolloutSpec
from tapchanger_serving.contract.distill import DISTILL, Distill
from tapchanger_serving.contract.gates import CALIBRATION_DATA, TEMPERATURE_SCALING, Gates, TextSource
from tapchanger_serving.contract.messages import Precision, Runtime, Shapes
from tapchanger_serving.contract.plans import TensorRtOptions

ServedTask = Literal["text-classification", "token-classification", "feature-extraction"]


class ModelSpec(Model):
    """Which model, and what it does."""

    uri: str = Field(
        min_length=1,
        max_length=1024,
        description=f"Where the checkpoint (safetensors) is: {URI_HELP}.",
        json_schema_extra=rules(
            (f"self.matches(r'{URI_PATTERN}')", f"not a model address that can be fetched: {URI_HELP}")
        ),
    )
    task: ServedTask = Field(description="What the model's head does.")
    credentials: Credentials | None = Field(default=None, description="What opens the store, the registry or the Hub.")
    poll_interval: PollInterval | None = Field(
        default=None,
        description="How often the address is asked for new content, which then becomes a new revision. By default never. "
        "A pinned address has no new content and is not asked.",
    )


class EngineSpec(Model):
    """Which engine to build, and what it must show before it serves."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!(self.runtime in ['onnxruntime', 'openvino'] && self.precision in ['fp16', 'fp8'])",
                "precision fp16 and fp8 need runtime tensorrt or auto",
            ),
            (
                "!(self.runtime == 'onnxruntime' && self.precision == 'bf16')",
                "precision bf16 needs runtime openvino, tensorrt or auto",
            ),
            (
                "!has(self.temperatureScaling) || !self.temperatureScaling || has(self.gates.evaluation)",
                "temperatureScaling is fitted on labelled texts: write gates: {evaluation: {dataset: {uri: …}}} too",
            ),
        )
    )

    runtime: Runtime = Field(default="auto", description="auto takes the fastest measured that passes the gates.")
    precision: Precision = Field(default="auto", description="auto takes the fastest measured that passes the gates.")
    shapes: Shapes = Field(default=Shapes(), description="Largest batch and token count that the engine takes.")
    gates: Gates = Field(default=Gates(), description="What an engine must show before it may serve.")
    calibration_data: TextSource | None = Field(default=None, description=CALIBRATION_DATA)
    temperature_scaling: bool | None = Field(default=None, description=TEMPERATURE_SCALING)
    tensorrt: TensorRtOptions | None = Field(default=None, description="How TensorRT engines are built.")
    distill: Distill | None = Field(default=None, description=DISTILL)
    attempt: Attempt | None = Field(default=None, description=ATTEMPT)


class Replicas(Model):
    """How many servers each revision has."""

    min: int = Field(default=1, ge=1, le=1000)


class Batching(Model):
    """How Triton's dynamic batching waits."""

    max_queue_delay: Literal["auto"] | Duration = Field(
        default="auto",
        description="How long a request may wait for company. auto does not wait: batches form while the engine is busy.",
    )


class PodTemplate(Model):
    """Fields that are passed on to the pods of the servers; placement goes to the builds as well."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    resources: FreeForm = Field(default={}, description="Resources of the tritonserver container.")
    build_resources: FreeForm = Field(default={}, description="Resources of the build's containers.")
    node_selector: dict[str, str] = {}
    tolerations: list[FreeForm] = Field(default=[], max_length=64)
    affinity: FreeForm = {}
    topology_spread_constraints: list[FreeForm] = Field(default=[], max_length=16)
    volumes: list[FreeForm] = Field(default=[], max_length=64)
    volume_mounts: list[FreeForm] = Field(default=[], max_length=64)
    image_pull_secrets: list[FreeForm] = Field(default=[], max_length=16)
    service_account_name: str | None = None
    priority_class_name: str | None = None
    runtime_class_name: str | None = None
    termination_grace_period_seconds: int = Field(default=60, ge=20, le=3600)

    @field_validator("affinity")
    @classmethod
    def _affinity_has_terms(cls, value: dict[str, Any]) -> dict[str, Any]:
        """The operator adds to these terms, so it must find them where they belong."""
        required = value.get("nodeAffinity", {})
        if isinstance(required, dict):
            required = required.get("requiredDuringSchedulingIgnoredDuringExecution", {"nodeSelectorTerms": []})
        terms = required.get("nodeSelectorTerms") if isinstance(required, dict) else None
        if not isinstance(terms, list) or not all(isinstance(term, dict) for term in terms):
            raise ValueError("write a pod's affinity as `kubectl explain pod.spec.affinity` describes it")
        return value


class ServingSpec(Model):
    """How the engine is served."""

    replicas: Replicas = Replicas()
    batching: Batching = Batching()
    template: PodTemplate = PodTemplate()


FEWEST_LABELS = 50


class Objective(Model):
    """One promise: a share `target` of requests answered within `latency`, a share `availability` answered at all, or a share
    `accuracy` of the labelled answers right.
    """

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "[has(self.latency), has(self.availability), has(self.accuracy)].filter(x, x).size() == 1",
                "an objective is one of {latency: 50ms, target: 0.99}, {availability: 0.999} and {accuracy: 0.9}",
            ),
            (
                "has(self.accuracy) || !(has(self.slice) || has(self.minLabels))",
                "slice and minLabels belong to accuracy: {accuracy: 0.9, slice: source=tweets, minLabels: 50}",
            ),
            ("has(self.latency) == has(self.target)", "latency and target go together: {latency: 50ms, target: 0.99}"),
        )
    )

    latency: Duration | None = None
    target: float | None = Field(default=None, ge=0.5, lt=1)
    availability: float | None = Field(default=None, ge=0.5, lt=1)
    accuracy: float | None = Field(
        default=None,
        ge=0.5,
        lt=1,
        description="Share of right answers among those whose true label came to the observer's POST /v1/feedback.",
    )
    slice: str | None = Field(
        default=None,
        min_length=3,
        max_length=160,
        pattern="^[^=]+(=|<=).+$",
        description="Only answers of one kind: answer=LABEL, label=LABEL, tokens<=64, or NAME=VALUE that feedback names.",
    )
    min_labels: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description=f"Labelled answers that a canary must have before it passes; {FEWEST_LABELS} by default.",
    )

    @property
    def fewest_labels(self) -> int:
        """Labels below which accuracy says nothing good."""
        return FEWEST_LABELS if self.min_labels is None else self.min_labels


DEFAULT_OBJECTIVES = (Objective(latency="250ms", target=0.99), Objective(availability=0.999))


class SloSpec(Model):
    """What users were promised."""

    objectives: list[Objective] = Field(default=list(DEFAULT_OBJECTIVES), min_length=1, max_length=8)
    window: Duration = Field(default="1h", description="Over which time status.slo is computed.")


class ParentRef(Model):
    """A Gateway that routes to the model, as `parentRefs` of a route has it."""

    name: str = Field(min_length=1, max_length=253)
    namespace: str | None = Field(
        default=None, min_length=1, max_length=63, description="The Gateway's; by default the deployment's."
    )
    section_name: str | None = Field(default=None, min_length=1, max_length=253, description="One of its listeners.")
    port: int | None = Field(default=None, ge=1, le=65535, description="Only its listeners at this port.")


Hostname = Annotated[
    str, Field(max_length=253, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
]
"""A DNS name without a wildcard: each deployment has names of its own."""


def _some(field: str) -> str:
    return f"(has(self.{field}) && size(self.{field}) > 0)"


class RouterSpec(Model):
    """What splits the traffic: Envoy pods of the deployment's own, or a gateway that is there already."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                f"self.type != 'GatewayAPI' || {_some('parentRefs')}",
                "type GatewayAPI needs the Gateway that routes: parentRefs: [{name: GATEWAY, namespace: ITS-NAMESPACE}]",
            ),
            (
                f"self.type == 'GatewayAPI' || !({_some('parentRefs')} || {_some('hostnames')} || {_some('grpcHostnames')})",
                "parentRefs, hostnames and grpcHostnames belong to a gateway: write type: GatewayAPI, or leave them out",
            ),
            (
                f"!{_some('grpcHostnames')} || {_some('hostnames')}",
                "grpcHostnames needs hostnames for HTTP, since a route for every name collides with the one for gRPC: "
                "hostnames: [moderation.example.com], grpcHostnames: [moderation-grpc.example.com]",
            ),
            (
                "!has(self.hostnames) || !has(self.grpcHostnames) || !self.hostnames.exists(h, h in self.grpcHostnames)",
                "a Gateway serves a name as HTTP or as gRPC, not as both; write another name into grpcHostnames",
            ),
        )
    )

    type: Literal["Envoy", "GatewayAPI"] = "Envoy"
    replicas: int = Field(default=2, ge=1, le=100, description="Envoy pods.")
    resources: FreeForm = Field(default={}, description="Resources of an Envoy pod.")
    parent_refs: list[ParentRef] = Field(default=[], max_length=8, description="With GatewayAPI: the Gateways.")
    hostnames: list[Hostname] = Field(
        default=[],
        max_length=16,
        description="With GatewayAPI: names for HTTP. Without, requests are told by their path, /v2/models/NAME.",
    )
    grpc_hostnames: list[Hostname] = Field(
        default=[], max_length=16, description="With GatewayAPI: names for gRPC. Without, the gateway serves HTTP only."
    )


class TransformerDeploymentSpec(Model):
    """What to serve and how good it must be. Everything but `model` has a default that serves well."""

    model_config = ConfigDict(json_schema_extra=joined(SPEC_RULES, RETRAINING_RULES))

    model: ModelSpec
    engine: EngineSpec = EngineSpec()
    serving: ServingSpec = ServingSpec()
    slo: SloSpec = SloSpec()
    rollout: RolloutSpec = RolloutSpec()
    drift: DriftSpec = DriftSpec()
    retraining: RetrainingSpec | None = Field(default=None, description="What trains the model anew, and when.")
    capture: CaptureSpec | None = Field(
        default=None, description="Texts that are kept for retraining. By default none are."
    )
    router: RouterSpec = RouterSpec()
    variants: list[Variant] = Field(
        default=[],
        max_length=8,
        description="Other content for part of the users; the base spec is the arm `control`.",
        json_schema_extra=VARIANTS_RULES,
    )
    experiment: Experiment | None = Field(default=None, description="How the variants are compared.")

    @field_validator("variants")
    @classmethod
    def _variants_leave_control_something(cls, value: list[Variant]) -> list[Variant]:
        """What the rules say at admission, for objects that were stored without it."""
        names = [variant.name for variant in value]
        if len(set(names)) < len(names) or sum(variant.weight for variant in value) > 99:
            raise ValueError("each variant needs its own name, and their weights may add up to 99 at most")
        return value
