"""TensorRT engines."""

from tapchanger_serving.build.candidates.base import Bench
from tapchanger_serving.engines import EngineSpec


def fp32(bench: Bench) -> EngineSpec:
    raise NotImplementedError


fp16 = bf16 = fp32
