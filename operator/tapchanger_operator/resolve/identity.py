"""From a spec and an inspection to an EngineBuild and a revision, both named by their content."""

from __future__ import annotations

from typing import Any

from tapchanger_operator.api.base import FreeForm, Model, parse_uri, seconds
from tapchanger_operator.api.enginebuild import BuildSource, EngineBuildSpec
from tapchanger_operator.api.spec import EngineSpec, PodTemplate, TransformerDeploymentSpec
from tapchanger_operator.names import content_hash
from tapchanger_serving.contract.fit import widened
from tapchanger_serving.contract.gates import TextSource
from tapchanger_serving.contract.messages import Hardware, Inspection, Task

_PLACEMENT_FIELDS = (
    "node_selector", "tolerations", "affinity", "volumes", "volume_mounts",
    "image_pull_secrets", "priority_class_name", "runtime_class_name",
)  # fmt: skip


class RevisionContent(Model):
    """Everything that shapes a revision's pods. Stored, so that a revision can be rendered again after the spec moved on.

    `hardware` is None in revisions of before it was stored; their pods are placed by the architecture alone, as they were.
    """

    build: str
    artifact: str
    runtime: str
    uri: str
    task: Task
    arch: str
    hardware: Hardware | None = None
    image: str
    max_batch_size: int
    queue_delay_us: int
    template: FreeForm

    @property
    def revision(self) -> str:
        """The revision's name: ten hexadecimal digits of the content's hash.

        The address is not part of the content, and the hardware is part of the build's name already.
        """
        return content_hash(self.model_dump(mode="json", exclude={"uri", "hardware"}, exclude_none=True), 10)


def placement(template: PodTemplate) -> dict[str, Any]:
    """The part of the pod template that says where pods may run, for builds."""
    wire = template.model_dump(mode="json", by_alias=True, include=set(_PLACEMENT_FIELDS), exclude_defaults=True)
    if template.build_resources:
        wire["resources"] = template.build_resources
    return wire


def inspection_key(spec: TransformerDeploymentSpec) -> str:
    """Identity of the question that the inspecting Job answers."""
    question = {
        "uri": spec.model.uri,
        "task": spec.model.task,
        "dataset": spec.engine.gates.evaluation.dataset.uri if spec.engine.gates.evaluation else None,
        "placement": placement(spec.serving.template),
    }
    if spec.engine.calibration_data:
        question["calibration"] = spec.engine.calibration_data.uri
    if spec.engine.distill:
        question["distill"] = spec.engine.distill.dataset.uri
    if drift := drift_data(spec):
        question["drift"] = drift.uri
    if spec.model.credentials:
        question["credentials"] = spec.model.credentials.secret_name
    return content_hash(question, 10)


def claims(spec: TransformerDeploymentSpec | EngineBuildSpec) -> tuple[str, ...]:
    """PersistentVolumeClaims that hold the model and the data."""
    engine = spec if isinstance(spec, EngineBuildSpec) else spec.engine
    drift = spec.drift_data if isinstance(spec, EngineBuildSpec) else drift_data(spec)
    uris = [spec.model.uri, *data_uris(engine).values(), *([drift.uri] if drift else [])]
    found = {claim for uri in uris if (claim := parse_uri(uri).claim)}
    return tuple(sorted(found))


def drift_data(spec: TransformerDeploymentSpec) -> TextSource | None:
    """The texts that traffic is compared with, where the spec names some of their own."""
    reference = spec.drift.reference
    return reference if spec.drift.enabled and isinstance(reference, TextSource) else None


def data_uris(engine: EngineSpec | EngineBuildSpec) -> dict[str, str]:
    """Addresses of the data that a build reads, by their field in `spec.engine`."""
    found = {}
    if engine.gates.evaluation:
        found["gates.evaluation.dataset.uri"] = engine.gates.evaluation.dataset.uri
    if engine.calibration_data:
        found["calibrationData.uri"] = engine.calibration_data.uri
    if engine.distill:
        found["distill.dataset.uri"] = engine.distill.dataset.uri
    return found


def engine_build(spec: TransformerDeploymentSpec, inspection: Inspection, builder: str) -> EngineBuildSpec:
    """The build that `spec` asks for, given what the inspection found. `builder` is the builder image."""
    return EngineBuildSpec(
        model=BuildSource(
            uri=spec.model.uri,
            digest=inspection.digest,
            task=spec.model.task,
            credentials=spec.model.credentials,
        ),
        runtime=spec.engine.runtime,
        precision=spec.engine.precision,
        shapes=spec.engine.shapes,
        gates=spec.engine.gates,
        calibration_data=spec.engine.calibration_data,
        drift_data=drift_data(spec),
        temperature_scaling=spec.engine.temperature_scaling or None,
        tensorrt=spec.engine.tensorrt.chosen if spec.engine.tensorrt else None,
        distill=spec.engine.distill,
        attempt=spec.engine.attempt if (spec.engine.attempt or 1) > 1 else None,
        builder=builder,
        hardware=inspection.hardware,
        placement=placement(spec.serving.template),
    )


def build_name(build: EngineBuildSpec) -> str:
    """`eb-` and twelve hexadecimal digits of the content's hash; address, credentials and placement are not part of it.

    Unset fields are left out, so that a field that a later release adds renames nothing.
    """
    identity = build.model_dump(
        mode="json", exclude={"placement": True, "model": {"uri", "credentials"}}, exclude_none=True
    )
    return f"eb-{content_hash(identity, 12)}"


def queue_delay_us(max_queue_delay: str) -> int:
    """Microseconds that a request may wait in Triton's queue for company; `auto` does not wait."""
    return 0 if max_queue_delay == "auto" else round(seconds(max_queue_delay) * 1e6)


def revision(
    spec: TransformerDeploymentSpec, build: EngineBuildSpec, name: str, artifact: str, runtime: str, server_image: str
) -> RevisionContent:
    """The revision that `spec` asks for, once build `name` has its `artifact` (`sha256:<hex>`)."""
    return RevisionContent(
        build=name,
        artifact=artifact,
        runtime=runtime,
        uri=build.model.uri,
        task=build.model.task,
        arch=build.hardware.arch,
        hardware=widened(build.hardware, build.tensorrt.hardware_compatibility if build.tensorrt else "None"),
        image=server_image,
        max_batch_size=build.shapes.max_batch_size,
        queue_delay_us=queue_delay_us(spec.serving.batching.max_queue_delay),
        template=spec.serving.template.model_dump(
            mode="json", by_alias=True, exclude={"build_resources"}, exclude_defaults=True
        ),
    )
