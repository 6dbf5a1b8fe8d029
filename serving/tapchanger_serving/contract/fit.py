"""Whether an engine that was built on one kind of hardware may run on another."""

from __future__ import annotations

from collections.abc import Iterator

from tapchanger_serving.contract.messages import Gpu, Hardware


def lacking(runtime: str, needed: Hardware, found: Hardware) -> tuple[str, ...]:
    """What `found` lacks of the hardware `needed` that an engine of `runtime` was built on, in words; empty where it may run.

    A CPU may have more instruction sets than the engine's, never fewer: it was chosen and checked with kernels that use
    them. A GPU must be the same product with the same compute capability and the same major version of the driver. A
    TensorRT plan asks nothing of the CPU but its architecture.
    """
    return tuple(_lacking(runtime, needed, found))


def _lacking(runtime: str, needed: Hardware, found: Hardware) -> Iterator[str]:
    if found.arch != needed.arch:
        yield f"architecture {needed.arch}"
        return
    if runtime != "tensorrt":
        yield from sorted(set(needed.instruction_sets) - set(found.instruction_sets))
    if needed.gpu and _kind(needed.gpu) != (found.gpu and _kind(found.gpu)):
        yield described_gpu(needed.gpu)


def _kind(gpu: Gpu) -> tuple[str, str, str]:
    return dashed(gpu.product), gpu.compute_capability, driver_major(gpu.driver)


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
    return f"GPU {gpu.product} (compute capability {gpu.compute_capability}, driver {driver_major(gpu.driver)})"
