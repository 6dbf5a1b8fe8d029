"""``spec.variants`` and ``spec.experiment``: other content beside the base spec, by slots of users, and how to choose."""

from __future__ import annotations

import re
from typing import Final, Literal

from pydantic import ConfigDict, Field, field_validator

from tapchanger_operator.api.base import ATTEMPT, URI_HELP, URI_PATTERN, Attempt, Duration, Model, PollInterval, rules
from tapchanger_operator.api.credentials import Credentials
from tapchanger_serving.contract.distill import DISTILL, Distill
from tapchanger_serving.contract.gates import CALIBRATION_DATA, TEMPERATURE_SCALING, Gates, TextSource
from tapchanger_serving.contract.messages import Precision, Runtime, Shapes, Task
from tapchanger_serving.contract.plans import TensorRtOptions

CONTROL: Final = "control"
"""The name of the base spec's own arm."""

Metric = Literal["latency", "availability", "feedback", "confidence", "accuracy"]

_NAME: Final = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_NAME_HELP: Final = "write a name of lower-case letters, digits and '-', such as b or int8"
_HEADER: Final = "^[a-z0-9]([-a-z0-9_.]*[a-z0-9])?$"
_HEADER_HELP: Final = (
    "write a header's name in lower case, such as x-user-id; with gRPC it is the metadata of that name"
)


class VariantModel(Model):
    """The model of a variant."""

    uri: str = Field(
        min_length=1,
        max_length=1024,
        description=f"Where the checkpoint (safetensors) is: {URI_HELP}.",
        json_schema_extra=rules(
            (f"self.matches(r'{URI_PATTERN}')", f"not a model address that can be fetched: {URI_HELP}")
        ),
    )
    credentials: Credentials | None = Field(default=None, description="The base spec's, where it is left out.")
    poll_interval: PollInterval | None = Field(default=None, description="The base spec's, where it is left out.")
    task: Task | None = Field(default=None, description="The base spec's task; may be left out.")


class VariantEngine(Model):
    """What a variant's engine has that the base spec's does not; all that is left out is inherited."""

    runtime: Runtime | None = None
    precision: Precision | None = None
    shapes: Shapes | None = None
    gates: Gates | None = None
    calibration_data: TextSource | None = Field(default=None, description=CALIBRATION_DATA)
    temperature_scaling: bool | None = Field(default=None, description=TEMPERATURE_SCALING)
    tensorrt: TensorRtOptions | None = Field(default=None, description="How TensorRT engines are built.")
    distill: Distill | None = Field(default=None, description=DISTILL)
    attempt: Attempt | None = Field(default=None, description=ATTEMPT)


class Variant(Model):
    """One arm beside the base spec."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "has(self.model) || has(self.engine)",
                "a variant differs from the base spec: write model: {uri: …} or engine: {…} or both",
            )
        )
    )

    name: str = Field(
        min_length=1,
        max_length=40,
        json_schema_extra=rules(
            (f"self.matches('{_NAME}')", _NAME_HELP),
            (f"self != '{CONTROL}'", f"{CONTROL} is the name of the base spec's own arm; write another name"),
        ),
    )
    weight: int = Field(ge=1, le=99, description="Percent of the users; the base spec has the rest.")
    model: VariantModel | None = None
    engine: VariantEngine | None = None

    @field_validator("name")
    @classmethod
    def _is_a_label(cls, value: str) -> str:
        if not re.match(_NAME, value) or value == CONTROL:
            raise ValueError(_NAME_HELP)
        return value


class StickyBy(Model):
    """By what users are known."""

    header: str = Field(
        min_length=1,
        max_length=128,
        description="Request header (gRPC: metadata) whose value stays with its arm; requests without it go by chance.",
        json_schema_extra=rules((f"self.matches('{_HEADER}')", _HEADER_HELP)),
    )

    @field_validator("header")
    @classmethod
    def _is_a_header(cls, value: str) -> str:
        if not re.match(_HEADER, value):
            raise ValueError(_HEADER_HELP)
        return value


class Experiment(Model):
    """How the arms are compared, and what follows."""

    sticky_by: StickyBy | None = Field(default=None, description="Without it each request goes by chance.")
    metric: Metric = Field(
        default="latency",
        description="latency: share of requests within the first latency objective; availability: share answered; "
        "feedback: mean score that users gave; confidence: mean score of the labels that were answered; accuracy: share of "
        "right answers among those whose true label came.",
    )
    min_effect: float = Field(
        default=0.0, ge=0, lt=1, description="Smallest difference that matters, as a share: 0.01 is one point."
    )
    error: float = Field(
        default=0.05, gt=0, le=0.2, description="Largest chance that a winner is ever declared that is none."
    )
    min_requests: int = Field(
        default=100, ge=1, le=10_000_000, description="Outcomes of each arm before anything is declared."
    )
    timeout: Duration = Field(default="30d", description="After this the verdict is Inconclusive; the figures go on.")
    winner: Literal["Manual", "Auto"] = Field(
        default="Manual", description="Auto gives a winner all requests until the spec changes; Manual only says so."
    )


VARIANTS_RULES: Final = rules(
    ("self.all(v, self.exists_one(w, w.name == v.name))", "two variants have the same name; each needs its own"),
    (
        "self.map(v, v.weight).sum() <= 99",
        "the variants' weights add up to more than 99, and the base spec needs at least 1; lower some of them",
    ),
)
SPEC_RULES: Final = rules(
    (
        "!has(self.rollout.mirror) || self.rollout.mirror == 0 || self.router.type == 'Envoy'",
        "rollout.mirror needs router.type Envoy: routes of a gateway can't mark the requests that are copied; set it to 0",
    ),
    (
        "!has(self.experiment) || (has(self.variants) && self.variants.size() > 0)",
        "experiment needs variants to compare: write variants: [{name: b, weight: 10, model: {uri: …}}]",
    ),
    (
        "!has(self.variants) || self.variants.all(v, !has(v.model) || !has(v.model.task) || v.model.task == self.model.task)",
        "a variant's task must be the base spec's: leave out variants[].model.task or write the same one",
    ),
    (
        "!has(self.variants) || "
        "self.variants.all(v, !has(v.model) || !has(v.model.pollInterval) || v.model.uri != self.model.uri)",
        "a variant with the base spec's address is polled with it: write model.pollInterval in place of "
        "variants[].model.pollInterval",
    ),
    (
        "!has(self.experiment) || self.experiment.metric != 'latency' || self.slo.objectives.exists(o, has(o.latency))",
        "experiment.metric latency needs a latency objective: add {latency: 50ms, target: 0.99} to slo.objectives, "
        "or compare by availability or feedback",
    ),
    (
        "!has(self.experiment) || self.experiment.metric != 'confidence' || self.model.task == 'text-classification'",
        "experiment.metric confidence needs the task text-classification: other answers have no score; "
        "compare by latency, availability or feedback",
    ),
    (
        "self.model.task == 'text-classification' || !((has(self.experiment) && self.experiment.metric == 'accuracy') || "
        "self.slo.objectives.exists(o, has(o.accuracy)))",
        "accuracy needs the task text-classification: of other answers no label says whether they are right",
    ),
    (
        "!has(self.rollout.mirror) || self.rollout.mirror == 0 || self.slo.objectives.exists(o, !has(o.accuracy))",
        "rollout.mirror needs an objective of latency or availability too, since copies are not labelled: "
        "add {availability: 0.999} to slo.objectives",
    ),
    (
        "!has(self.experiment) || !has(self.experiment.stickyBy) || self.router.type == 'Envoy'",
        "experiment.stickyBy needs router.type Envoy: routes of a gateway can't keep users on their arm",
    ),
)
