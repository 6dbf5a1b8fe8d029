"""An engine is not served where it can't run, or where it would not be the engine that was measured."""

from __future__ import annotations

from tapchanger_serving.contract.artifact import Artifact
from tapchanger_serving.contract.fit import described, lacking, widened
from tapchanger_serving.contract.messages import Hardware
from tapchanger_serving.contract.plans import PlanNeeds
from tapchanger_serving.repository.verify import ArtifactError


class IncompatibleError(ArtifactError):
    """This node's hardware is not what the engine was built for; another node, or another engine, helps."""


def require_fit(artifact: Artifact, here: Hardware) -> None:
    """Raises :class:`IncompatibleError` with what is lacking, and what was found, where `here` can't run the engine."""
    # An engine for small batches beside a TensorRT plan runs on the CPU.
    runtime = artifact.small.runtime if artifact.small else artifact.runtime
    compatibility = PlanNeeds.of(artifact.options).hardware_compatibility if artifact.runtime == "tensorrt" else "None"
    missing = lacking(runtime, widened(artifact.hardware, compatibility), here)
    if missing:
        engine = f"the engine ({artifact.runtime} {artifact.precision})"
        raise IncompatibleError(f"{engine} needs {', '.join(missing)}; the node is {described(here)}")
