"""What the machine at hand is, as far as engines depend on it. Builds and servers ask the same way, so that answers compare."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path

from tapchanger_serving.contract.messages import Gpu, Hardware

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_RELEVANT = {
    "amd64": {
        "avx2",
        "avx512f",
        "avx512_vnni",
        "avx512_bf16",
        "avx_vnni",
        "amx_tile",
        "amx_int8",
        "amx_bf16",
    },
    "arm64": {"asimd", "sve", "bf16", "i8mm"},
}
_NVML = "libnvidia-ml.so.1"
_TEXT = 96


def probe(cpuinfo: Path = Path("/proc/cpuinfo"), nvml: str = _NVML) -> Hardware:
    """The hardware at hand; architectures by their Kubernetes names (amd64, arm64)."""
    machine = platform.machine()
    arch = _ARCHITECTURES.get(machine, machine)
    return Hardware(arch=arch, instruction_sets=_instruction_sets(cpuinfo, _RELEVANT.get(arch, set())), gpu=_gpu(nvml))


def _instruction_sets(cpuinfo: Path, relevant: set[str]) -> tuple[str, ...]:
    for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in {"flags", "Features"}:
            return tuple(sorted(relevant & set(value.split())))
    return ()


def _gpu(library: str) -> Gpu | None:
    """The first GPU, asked from NVIDIA's management library, which the container runtime mounts into GPU containers."""
    try:
        nvml = ctypes.CDLL(library)
    except OSError:
        return None
    if nvml.nvmlInit_v2() != 0:
        return None
    try:
        return _first_gpu(nvml)
    finally:
        nvml.nvmlShutdown()


def _first_gpu(nvml: ctypes.CDLL) -> Gpu | None:
    device = ctypes.c_void_p()
    if nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device)) != 0:
        return None
    name, driver = ctypes.create_string_buffer(_TEXT), ctypes.create_string_buffer(_TEXT)
    major, minor = ctypes.c_int(), ctypes.c_int()
    failed = (
        nvml.nvmlDeviceGetName(device, name, _TEXT)
        or nvml.nvmlSystemGetDriverVersion(driver, _TEXT)
        or nvml.nvmlDeviceGetCudaComputeCapability(device, ctypes.byref(major), ctypes.byref(minor))
    )
    if failed:
        return None
    return Gpu(
        product=name.value.decode(), compute_capability=f"{major.value}.{minor.value}", driver=driver.value.decode()
    )
