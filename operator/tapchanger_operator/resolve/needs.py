"""What an engine needs of a node, and what nodes are, as far as their labels tell.

CPU labels come from node feature discovery, GPU labels from NVIDIA's GPU feature discovery. A node without them may be
anything: there, the servers' init container looks at the hardware itself.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tapchanger_operator.names import content_hash
from tapchanger_operator.resolve.placing import ARCH, OS
from tapchanger_operator.snapshot import Node
from tapchanger_serving.contract.fit import AND_LATER, dashed, driver_major, lacking
from tapchanger_serving.contract.messages import Gpu, Hardware

CPUID: Final = "feature.node.kubernetes.io/cpu-cpuid."
FLAGS: Final[Mapping[str, Mapping[str, str]]] = {
    "amd64": {
        "avx2": "AVX2",
        "avx512f": "AVX512F",
        "avx512_vnni": "AVX512VNNI",
        "avx512_bf16": "AVX512BF16",
        "avx_vnni": "AVXVNNI",
        "amx_tile": "AMXTILE",
        "amx_int8": "AMXINT8",
        "amx_bf16": "AMXBF16",
    },
    "arm64": {"asimd": "ASIMD", "sve": "SVE"},
}
"""The kernel's names of instruction sets, and those in labels. Arm's `bf16` and `i8mm` are left to the init container: only
newer releases of node feature discovery tell of them, and a label that is never written would keep pods off every node.
"""
_BASE: Final = {"amd64": f"{CPUID}AVX2", "arm64": f"{CPUID}ASIMD"}
"""The label that every server CPU of the last ten years has where node feature discovery has looked at it."""

PRODUCT: Final = "nvidia.com/gpu.product"
CAPABILITY: Final = ("nvidia.com/gpu.compute.major", "nvidia.com/gpu.compute.minor")
DRIVER: Final = "nvidia.com/cuda.driver-version.major"
OLD_DRIVER: Final = "nvidia.com/cuda.driver.major"
FULL_DRIVER: Final = "nvidia.com/cuda.driver-version.full"
SHARED: Final = "-SHARED"
"""What GPU feature discovery adds to the product where the GPU is shared by time."""

Expression = dict[str, Any]


def requirements(runtime: str, hardware: Hardware) -> list[list[Expression]]:
    """Node selector terms, one of which a node must meet: it has the labels of all that the engine needs, or none of the kind."""
    machine = [_one_of(OS, "linux"), _one_of(ARCH, hardware.arch)]
    ways = itertools.product(_cpu_ways(runtime, hardware), _gpu_ways(hardware.gpu))
    return [[*machine, *cpu, *gpu] for cpu, gpu in ways]


def preferences(hardware: Hardware) -> list[Expression]:
    """Labels that a node with just the instruction sets of `hardware` doesn't have: a build measures on nodes of one kind.

    Node feature discovery also names sets that the kernel has switched off, so that these can't be required.
    """
    flags = FLAGS.get(hardware.arch, {})
    others = [flag for name, flag in flags.items() if name not in hardware.instruction_sets]
    return [{"key": f"{CPUID}{flag}", "operator": "DoesNotExist"} for flag in others]


def _cpu_ways(runtime: str, hardware: Hardware) -> list[list[Expression]]:
    flags = FLAGS.get(hardware.arch, {})
    wanted = [_one_of(f"{CPUID}{flags[name]}", "true") for name in hardware.instruction_sets if name in flags]
    if runtime == "tensorrt" or not wanted:
        return [[]]
    return [wanted, [_none(_BASE[hardware.arch])]]


def _gpu_ways(gpu: Gpu | None) -> list[list[Expression]]:
    if gpu is None:
        return [[]]
    product, major = dashed(gpu.product), driver_major(gpu.driver)
    same = [_one_of(PRODUCT, product, product + SHARED)] if product else []
    parts = gpu.compute_capability.removesuffix(AND_LATER).split(".")
    if gpu.compute_capability.endswith(AND_LATER):
        same.append({"key": CAPABILITY[0], "operator": "Gt", "values": [str(int(parts[0]) - 1)]})
    else:
        same += [_one_of(key, part) for key, part in zip(CAPABILITY, parts, strict=False)]
    return [
        [*same, _one_of(DRIVER, major)],
        [*same, _none(DRIVER), _one_of(OLD_DRIVER, major)],
        [_none(PRODUCT)],
    ]


def _one_of(key: str, *values: str) -> Expression:
    return {"key": key, "operator": "In", "values": list(values)}


def _none(key: str) -> Expression:
    return {"key": key, "operator": "DoesNotExist"}


def lacks(node: Node, runtime: str, needed: Hardware) -> tuple[str, ...]:
    """What the labels of `node` say that it lacks, in words; empty where it has all, or where its labels don't tell."""
    return lacking(runtime, needed, _as_labelled(node.labels, needed))


def _as_labelled(labels: Mapping[str, str], needed: Hardware) -> Hardware:
    """The hardware by the labels; what they don't tell is taken to be as `needed`."""
    arch = labels.get(ARCH, needed.arch)
    sets, gpu = needed.instruction_sets, needed.gpu
    flags = FLAGS.get(arch, {})
    if _BASE.get(arch) in labels:
        untold = [name for name in sets if name not in flags]
        sets = (*untold, *(name for name, flag in flags.items() if labels.get(f"{CPUID}{flag}") == "true"))
    if needed.gpu and PRODUCT in labels:
        gpu = _labelled_gpu(labels)
    return Hardware(arch=arch, instruction_sets=tuple(sorted(sets)), gpu=gpu)


def _labelled_gpu(labels: Mapping[str, str]) -> Gpu:
    return Gpu(
        product=labels[PRODUCT].removesuffix(SHARED),
        compute_capability=".".join(labels.get(key, "") for key in CAPABILITY),
        driver=labels.get(FULL_DRIVER) or labels.get(DRIVER) or labels.get(OLD_DRIVER, ""),
    )


def kind(node: Node) -> str:
    """Eight digits that nodes of the same labelled hardware share. One whose labels don't tell is a kind of its own."""
    labels = node.labels
    arch = labels.get(ARCH, "")
    told: dict[str, Any] = {"arch": arch}
    if _BASE.get(arch) in labels:
        told["cpu"] = [flag for flag in FLAGS[arch].values() if labels.get(f"{CPUID}{flag}") == "true"]
    if PRODUCT in labels:
        told["gpu"] = _labelled_gpu(labels).model_dump()
    return content_hash(told if len(told) > 1 else {**told, "node": node.uid}, 8)


def shortage(nodes: Sequence[Node], runtime: str, needed: Hardware) -> str | None:
    """How many of `nodes` lack what, in words; None where none is known to lack anything."""
    missing = Counter(what for node in nodes if (what := lacks(node, runtime, needed)))
    if not missing:
        return None
    lines = [f"{count} lack{'s' if count == 1 else ''} {', '.join(what)}" for what, count in missing.most_common()]
    whole = (
        f"of {len(nodes)} nodes that the template allows"
        if len(nodes) > 1
        else "of the one node that the template allows"
    )
    return f"{whole}, {'; '.join(lines)}"
