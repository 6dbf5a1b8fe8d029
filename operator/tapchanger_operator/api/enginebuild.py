"""EngineBuild: an engine by its content. Its spec never changes; its name is the hash of what it is built from."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from tapchanger_operator.api.base import FreeForm, Model, StatusModel
from tapchanger_operator.api.credentials import Credentials
from tapchanger_operator.api.spec import ServedTask
from tapchanger_operator.api.status import Condition
from tapchanger_serving.contract.distill import DISTILL, Distill
from tapchanger_serving.contract.gates import CALIBRATION_DATA, TEMPERATURE_SCALING, Gates, TextSource
from tapchanger_serving.contract.messages import (
    BuildReport,
    Hardware,
    Precision,
    Runtime,
    Shapes,
)
from tapchanger_serving.contract.plans import TensorRtOptions


class BuildSource(Model):
    """The checkpoint: where it was found and what it holds. Only `digest` and `task` are part of the identity."""

    uri: str
    digest: str
    task: ServedTask
    credentials: Credentials | None = None


class EngineBuildSpec(Model):
    """Everything that the engine depends on, and where its build may run (`placement`, not part of the identity)."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "self == oldSelf",
                    "message": "an EngineBuild never changes; change the TransformerDeployment and it makes a new one",
                }
            ]
        }
    )

    model: BuildSource
    runtime: Runtime
    precision: Precision
    shapes: Shapes
    gates: Gates
    calibration_data: TextSource | None = Field(default=None, description=CALIBRATION_DATA)
    drift_data: TextSource | None = Field(
        default=None, description="Texts that traffic is compared with; without it these are the evaluation data."
    )
    temperature_scaling: bool | None = Field(default=None, description=TEMPERATURE_SCALING)
    tensorrt: TensorRtOptions | None = Field(default=None, description="How TensorRT engines are built.")
    distill: Distill | None = Field(default=None, description=DISTILL)
    attempt: int | None = Field(default=None, description="Set from the second build of the same content on.")
    builder: str = Field(description="The builder image.")
    hardware: Hardware
    placement: FreeForm = {}


Phase = Literal["Pending", "Fetching", "Exporting", "Distilling", "Measuring", "Ready", "Failed"]


class EngineBuildStatus(StatusModel):
    """Where the build stands, and the report once it is done."""

    observed_generation: int = 0
    phase: Phase = "Pending"
    engine: str = ""
    speedup: str = ""
    message: str = ""
    conditions: list[Condition] = Field(
        default=[], json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    )
    report: BuildReport | None = Field(default=None, description="The report, cut to what a status can hold.")
    artifact_uri: str = Field(default="", description="Where the engine lies that report.artifact names.")
    report_uri: str = Field(
        default="",
        description="Where the complete report lies, with digest report.digest; beside it a page (.html) and a model card (.md).",
    )
