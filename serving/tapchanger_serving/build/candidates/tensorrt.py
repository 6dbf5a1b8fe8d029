"""TensorRT engines. Its networks are strongly typed: the precision is the one in the graph that PyTorch exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tapchanger_serving.build.candidates.base import Bench
from tapchanger_serving.build.exported import graph_of
from tapchanger_serving.build.timing import reference_point
from tapchanger_serving.contract.messages import Shapes
from tapchanger_serving.engines import EngineSpec
from tapchanger_serving.engines.tensorrt import library

_RUNTIME = "tensorrt"
_FILE = "model.plan"


def fp32(bench: Bench) -> EngineSpec:
    """Everything in fp32, without the shortcut of TF32."""
    return _built(bench, "fp32")


def fp16(bench: Bench) -> EngineSpec:
    """The graph of the model in fp16."""
    return _built(bench, "fp16")


def bf16(bench: Bench) -> EngineSpec:
    """The graph of the model in bf16."""
    return _built(bench, "bf16")


def _built(bench: Bench, precision: str) -> EngineSpec:
    plan = build_plan(library(), bench.exported / graph_of(precision), bench)
    target = bench.folder(_RUNTIME, precision) / _FILE
    target.write_bytes(plan)
    return bench.spec(_RUNTIME, target)


def build_plan(trt: Any, graph: Path, bench: Bench) -> bytes:
    """The serialized engine for one profile: from one token to the request's shapes, best at the reference point."""
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        raise RuntimeError("; ".join(parser.get_error(index).desc() for index in range(parser.num_errors)))
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    config.add_optimization_profile(_profile(builder, bench))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError("TensorRT built no engine; the step's log has its reason")
    return bytes(plan)


def _profile(builder: Any, bench: Bench) -> Any:
    model = bench.model
    best = reference_point(Shapes(max_batch_size=model.max_batch_size, max_tokens=model.max_tokens))
    profile = builder.create_optimization_profile()
    for name in model.inputs:
        profile.set_shape(name, (1, 1), best, (model.max_batch_size, model.max_tokens))
    return profile
