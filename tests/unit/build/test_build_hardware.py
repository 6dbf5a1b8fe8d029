"""The probe names what engines depend on, and the plan follows from it."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path
from typing import Any

import pytest

from tapchanger_serving import hardware
from tapchanger_serving.build.candidates import plan
from tapchanger_serving.build.failures import StepError
from tapchanger_serving.contract.messages import BuildRequest, Gpu, Hardware, Precision, Runtime
from tapchanger_serving.contract.plans import HardwareCompatibility, TensorRtOptions
from tapchanger_serving.engines.cpus import allowed_cpus

NONE = "libnone-such.so.1"


def probe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, machine: str, line: str) -> Hardware:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n\nprocessor\t: 1\n{line}\n")
    return hardware.probe(tmp_path / "cpuinfo", NONE)


def test_only_instruction_sets_that_matter_are_named_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = probe(
        monkeypatch, tmp_path, "x86_64", "flags\t\t: fpu sse2 avx512f avx2 amx_tile avx512_vnni amx_bf16 bf16"
    )
    assert found == Hardware(arch="amd64", instruction_sets=("amx_bf16", "amx_tile", "avx2", "avx512_vnni", "avx512f"))


def test_arm_has_its_own_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = probe(monkeypatch, tmp_path, "aarch64", "Features\t: fp asimd evtstrm i8mm bf16 avx2")
    assert found == Hardware(arch="arm64", instruction_sets=("asimd", "bf16", "i8mm"))


def test_this_machine_can_be_probed() -> None:
    found = hardware.probe()
    assert found.arch in ("amd64", "arm64")
    assert found == hardware.probe()


class Nvml:
    """NVIDIA's management library, as far as it is asked."""

    def __init__(self, devices: int = 1) -> None:
        self.devices = devices
        self.open = 0

    def nvmlInit_v2(self) -> int:  # noqa: N802 - the library's name
        self.open += 1
        return 0

    def nvmlShutdown(self) -> int:  # noqa: N802 - the library's name
        self.open -= 1
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, handle: Any) -> int:  # noqa: N802 - the library's name
        return 0 if index < self.devices else 2

    def nvmlDeviceGetName(self, device: Any, text: Any, size: int) -> int:  # noqa: N802 - the library's name
        text.value = b"NVIDIA L4"
        return 0

    def nvmlSystemGetDriverVersion(self, text: Any, size: int) -> int:  # noqa: N802 - the library's name
        text.value = b"580.95.05"
        return 0

    def nvmlDeviceGetCudaComputeCapability(self, device: Any, major: Any, minor: Any) -> int:  # noqa: N802 - the library's name
        major._obj.value, minor._obj.value = 8, 9
        return 0


@pytest.mark.parametrize(
    ("devices", "expected"), [(1, Gpu(product="NVIDIA L4", compute_capability="8.9", driver="580.95.05")), (0, None)]
)
def test_a_gpu_is_named_by_its_driver(monkeypatch: pytest.MonkeyPatch, devices: int, expected: Gpu | None) -> None:
    nvml = Nvml(devices)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: nvml)
    assert hardware.probe().gpu == expected
    assert nvml.open == 0


CPU = Hardware(arch="amd64", instruction_sets=("avx2",))
BF16 = Hardware(arch="amd64", instruction_sets=("avx2", "avx512_bf16"))


def gpu(capability: str, product: str = "NVIDIA L4") -> Hardware:
    return Hardware(arch="amd64", gpu=Gpu(product=product, compute_capability=capability, driver="580"))


def planned(
    machine: Hardware,
    runtime: Runtime = "auto",
    precision: Precision = "auto",
    compatibility: HardwareCompatibility = "None",
) -> list[str]:
    request = BuildRequest(
        name="eb", uri="", digest="", task="text-classification", runtime=runtime, precision=precision, hardware=machine,
        tensorrt=TensorRtOptions(hardware_compatibility=compatibility),
    )  # fmt: skip
    return [recipe.name for recipe in plan(request, machine)]


def test_candidates_follow_the_hardware() -> None:
    cpu = ["onnxruntime fp32", "onnxruntime int8", "openvino fp32", "openvino int8"]
    assert planned(CPU) == cpu
    assert planned(BF16) == [*cpu, "openvino bf16"]
    assert planned(gpu("8.9"))[: len(cpu)] == cpu


@pytest.mark.parametrize(
    ("capability", "compatibility", "expected"),
    [
        ("7.0", "None", ["fp32", "fp16"]),
        ("7.5", "None", ["fp32", "fp16", "int8"]),
        ("8.6", "SameComputeCapability", ["fp32", "fp16", "bf16", "int8"]),
        ("8.9", "None", ["fp32", "fp16", "bf16", "int8", "fp8"]),
        ("10.0", "None", ["fp32", "fp16", "bf16", "int8", "fp8"]),
        ("10.0", "AmperePlus", ["fp32", "fp16", "bf16", "int8"]),
    ],
)
def test_tensorrt_is_tried_in_what_every_gpu_can_compute_that_it_may_run_on(
    capability: str, compatibility: HardwareCompatibility, expected: list[str]
) -> None:
    found = planned(gpu(capability), "tensorrt", compatibility=compatibility)
    assert found == [f"tensorrt {precision}" for precision in expected]


def test_a_compatibility_that_the_gpu_can_not_build_is_refused_where_it_matters() -> None:
    with pytest.raises(StepError) as caught:
        planned(gpu("7.5", "Tesla T4"), compatibility="AmperePlus")
    failure = caught.value.failure
    assert (failure.reason, failure.field) == ("EngineIncompatible", "spec.engine.tensorrt.hardwareCompatibility")
    assert "can't be built on Tesla T4, which has 7.5" in failure.message
    assert planned(gpu("7.5"), "openvino", compatibility="AmperePlus") == ["openvino fp32", "openvino int8"]


def test_pins_leave_only_what_they_name() -> None:
    assert planned(BF16, runtime="openvino") == ["openvino fp32", "openvino int8", "openvino bf16"]
    assert planned(BF16, precision="int8") == ["onnxruntime int8", "openvino int8"]
    assert planned(BF16, "openvino", "bf16") == ["openvino bf16"]


@pytest.mark.parametrize(("runtime", "precision"), [("tensorrt", "auto"), ("auto", "bf16"), ("onnxruntime", "fp8")])
def test_a_pin_that_the_machine_can_not_run_is_refused_with_what_it_can(runtime: Runtime, precision: Precision) -> None:
    with pytest.raises(StepError) as caught:
        planned(CPU, runtime, precision)
    failure = caught.value.failure
    assert failure.reason == "EngineIncompatible"
    assert "avx2" in failure.message
    assert "openvino int8" in (failure.remedy or "")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({}, 8),
    ],
    ids=["rounded up", "at least one", "no limit", "version 1", "version 1 without limit", "no cgroup"],
)
def test_the_cores_are_those_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert allowed_cpus(tmp_path) == expected
