"""TensorRT engines. Its networks are strongly typed: the precision is the one that is written in the graph."""

from __future__ import annotations

from pathlib import Path

import onnx

from tapchanger_serving.build.candidates import qdq, ranges
from tapchanger_serving.build.candidates.base import Bench, Made, Recipe
from tapchanger_serving.build.candidates.tensorrt_plan import Settings, TimingCache, build_plan
from tapchanger_serving.build.dataset import evenly
from tapchanger_serving.build.exported import graph_of, save_graph
from tapchanger_serving.build.failures import StepError
from tapchanger_serving.contract.messages import BuildRequest, Gpu
from tapchanger_serving.contract.plans import PlanNeeds, capability
from tapchanger_serving.engines.cuda import Stream
from tapchanger_serving.engines.tensorrt import library

_RUNTIME = "tensorrt"
_FILE = "model.plan"
_AMPERE = (8, 0)
_BASE = "fp16"
"""What 8-bit graphs compute in between their products."""
_CALIBRATION_TEXTS = 128


def fp32(bench: Bench) -> Made:
    """Everything in fp32, without the shortcut of TF32."""
    return _built(bench, bench.graph, "fp32")


def fp16(bench: Bench) -> Made:
    """The graph of the model in fp16."""
    return _built(bench, bench.exported / graph_of("fp16"), "fp16")


def bf16(bench: Bench) -> Made:
    """The graph of the model in bf16."""
    return _built(bench, bench.exported / graph_of("bf16"), "bf16")


def int8(bench: Bench) -> Made:
    """Products with weights in int8, ranges from the calibration texts where the mean square error is smallest; fp16 between."""
    return _built(bench, quantized_graph(bench, "int8"), "int8")


def fp8(bench: Bench) -> Made:
    """Products with weights in fp8 (E4M3), scaled by the largest magnitudes of the calibration texts; fp16 between."""
    return _built(bench, quantized_graph(bench, "fp8"), "fp8")


_RECIPES = (
    (Recipe(_RUNTIME, "fp32", fp32), (0, 0)),
    (Recipe(_RUNTIME, "fp16", fp16), (0, 0)),
    (Recipe(_RUNTIME, "bf16", bf16), (8, 0)),
    (Recipe(_RUNTIME, "int8", int8), (7, 5)),
    (Recipe(_RUNTIME, "fp8", fp8), (8, 9)),
)
"""Each with the compute capability from which on GPUs have such arithmetic."""


def recipes(request: BuildRequest, gpu: Gpu) -> list[Recipe]:
    """What every GPU that the engine may run on can compute.

    Raises `EngineIncompatible` when the request may take such an engine and this GPU can't build one as compatible as it says.
    """
    least = capability(gpu.compute_capability)
    if request.tensorrt_or_default.hardware_compatibility == "AmperePlus":
        if least < _AMPERE:
            if request.runtime not in ("auto", _RUNTIME):
                return []
            raise StepError(
                "EngineIncompatible",
                f"an engine for GPUs from compute capability 8.0 on can't be built on {gpu.product}, "
                f"which has {gpu.compute_capability}",
                field="spec.engine.tensorrt.hardwareCompatibility",
                remedy="write None or SameComputeCapability, or let the build run on a newer GPU",
            )
        least = _AMPERE
    return [recipe for recipe, needed in _RECIPES if least >= needed]


def quantized_graph(bench: Bench, precision: str) -> Path:
    """Writes the graph whose products with weights are in `precision` (int8 or fp8), and returns where it lies."""
    source = bench.exported / graph_of(_BASE)
    model = onnx.load(source)
    tensors = list(dict.fromkeys(node.input[0] for node in qdq.products(model.graph)))
    texts = bench.calibration
    rows = evenly(len(texts), _CALIBRATION_TEXTS)
    samples = [texts.tokenizer.pad([texts.encodings[row]]) for row in rows]
    bench.work.mkdir(parents=True, exist_ok=True)
    spreads = ranges.spreads(source, tensors, samples, bench.work)
    if precision == "int8":
        qdq.quantize(model, {name: spread.clip(127) for name, spread in spreads.items()}, qdq.INT8)
    else:
        # Clipping would gain nothing: the steps of a floating-point format are finest where most numbers are.
        qdq.quantize(model, {name: spread.largest for name, spread in spreads.items()}, qdq.FP8)
    target = bench.work / graph_of(precision)
    save_graph(model, target)
    return target


def _built(bench: Bench, graph: Path, precision: str) -> Made:
    gpu = bench.hardware.gpu
    if gpu is None:
        raise ValueError("TensorRT engines are built on a GPU, and the hardware names none")
    trt = library()
    stream = Stream()
    try:
        settings = Settings.of(bench.model, bench.tensorrt.hardware_compatibility, stream.free_memory())
        cache = TimingCache.of(bench.timings, gpu, trt.__version__)
        plan = build_plan(trt, graph, settings, cache)
    finally:
        stream.close()
    target = bench.folder(_RUNTIME, precision) / _FILE
    target.write_bytes(plan)
    needs = PlanNeeds(
        version=trt.__version__,
        compute_capability=gpu.compute_capability,
        hardware_compatibility=settings.compatibility,
        profiles=len(settings.profiles),
    )
    return Made(bench.spec(_RUNTIME, target, **needs.options()))
