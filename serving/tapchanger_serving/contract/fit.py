"""Whether an engine that was built on one kind of hardware may run on another."""

from __future__ import annotations

from collections.abc import Iterator

from tapchanger_serving.contract.messages import Gpu, Hardware
from tapchanger_serving.contract.plans import HardwareCompatibility, capability

AND_LATER = "+"


def lacking(runtime: str, needed: Hardware, found: Hardware) -> tuple[str, ...]:
    """What `found` lacks of the hardware `needed` that an engine of `runtime` was built on, in words; empty where it may run.

    A CPU may have more instruction sets than the engine's, never fewer: it was chosen and checked with kernels that use
    them. A GPU must be the same product with the same compute capability and the same major version of the driver, as
    far as :func:`widened` did not loosen that. A TensorRT plan asks nothing of the CPU but its architecture.
    """
    return tuple(_lacking(runtime, needed, found))


def _lacking(runtime: str, needed: Hardware, found: Hardware) -> Iterator[str]:
    if found.arch != needed.arch:
        yield f"architecture {needed.arch}"
        return
    if runtime != "tensorrt":
        yield from sorted(set(needed.instruction_sets) - set(found.instruction_sets))
    if needed.gpu and not (found.gpu and _fits(needed.gpu, found.gpu)):
        yield described_gpu(needed.gpu)


def _fits(needed: Gpu, found: Gpu) -> bool:
    product = needed.product in ("", found.product) or dashed(needed.product) == dashed(found.product)
    least = needed.compute_capability.removesuffix(AND_LATER)
    if least == needed.compute_capability:
        capable = found.compute_capability == least
    else:
        capable = capability(found.compute_capability.removesuffix(AND_LATER)) >= capability(least)
    return product and capable and driver_major(needed.driver) == driver_major(found.driver)


def widened(hardware: Hardware, compatibility: HardwareCompatibility) -> Hardware:
    """The hardware that a TensorRT plan needs that was built for more than its own GPU product.

    An empty product stands for any, and a compute capability with `+` behind it for that and all later ones.
    """
    if hardware.gpu is None or compatibility == "None":
        return hardware
    least = hardware.gpu.compute_capability if compatibility == "SameComputeCapability" else f"8.0{AND_LATER}"
    gpu = hardware.gpu.model_copy(update={"product": "", "compute_capability": least})
    return hardware.model_copy(update={"gpu": gpu})


def dashed(product: str) -> str:
    """A GPU's product name as a label's value has it: `NVIDIA-L4`."""
    return "-".join(product.split())


def driver_major(driver: str) -> str:
    """`580` of `580.95.05`."""
    return driver.partition(".")[0]


def described(hardware: Hardware) -> str:
    """The hardware in words."""
    sets = ", ".join(hardware.instruction_sets) or "no vector extensions"
    gpu = f" and {described_gpu(hardware.gpu)}" if hardware.gpu else ""
    return f"{hardware.arch} with {sets}{gpu}"


def described_gpu(gpu: Gpu) -> str:
    """A GPU in words, as far as engines depend on it."""
    product = gpu.product or "of any product"
    return f"GPU {product} (compute capability {gpu.compute_capability}, driver {driver_major(gpu.driver)})"
