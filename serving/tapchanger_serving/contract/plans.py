"""What a TensorRT plan depends on: written into the artifact's options when it is built, checked before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from tapchanger_serving.contract.base import Message

HardwareCompatibility = Literal["None", "SameComputeCapability", "AmperePlus"]

_AMPERE = (8, 0)


class TensorRtOptions(Message):
    """How TensorRT engines are built; other runtimes pass over it."""

    hardware_compatibility: HardwareCompatibility = Field(
        default="None",
        description="On which other GPUs the engine may run: None tunes it for the GPU product that builds it, "
        "SameComputeCapability for all of its compute capability, AmperePlus for every GPU from compute capability 8.0 on. "
        "The further it goes, the slower the engine may be.",
    )

    @property
    def chosen(self) -> TensorRtOptions | None:
        """None where nothing differs from the default, so that writing the default changes no name."""
        return None if self == TensorRtOptions() else self


class PlanNeeds(Message):
    """What the machine that loads a plan must have. `profiles` is how many optimization profiles the plan holds.

    `version` is TensorRT's own, `compute_capability` the one of the GPU that built it; None means that nobody wrote it down.
    """

    version: str | None = None
    compute_capability: str | None = None
    hardware_compatibility: HardwareCompatibility = "None"
    profiles: int = 1

    @classmethod
    def of(cls, options: Mapping[str, str]) -> PlanNeeds:
        """From an artifact's options."""
        return cls.model_validate(dict(options))

    def options(self) -> dict[str, str]:
        """As an artifact's options."""
        wire = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {name: str(value) for name, value in wire.items()}

    def refusal(self, version: str, compute_capability: str) -> str | None:
        """Why a GPU of this compute capability with this release of TensorRT can't run the plan; None if it can."""
        if self.version is not None and self.version != version:
            return (
                f"it was built with TensorRT {self.version}, and here is {version}; plans run on the release that built "
                "them: give the builder and the servers images with the same TensorRT"
            )
        if self.compute_capability is None or self.compute_capability == compute_capability:
            return None
        if self.hardware_compatibility == "AmperePlus":
            if capability(compute_capability) >= _AMPERE:
                return None
            return (
                f"it runs on GPUs from compute capability 8.0 on, and here is {compute_capability}; choose other nodes "
                "with serving.template.nodeSelector"
            )
        return (
            f"it was built for compute capability {self.compute_capability}, and here is {compute_capability}; keep builds "
            "and servers on one GPU product with serving.template.nodeSelector, or write "
            "engine.tensorrt.hardwareCompatibility: AmperePlus"
        )


def capability(text: str) -> tuple[int, ...]:
    """A compute capability such as `8.9` as numbers that can be compared; what is no number, as of a missing label, is left
    out.
    """
    return tuple(int(part) for part in text.split(".") if part.isdigit())
