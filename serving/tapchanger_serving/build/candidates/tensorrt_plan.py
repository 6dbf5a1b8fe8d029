"""Builds a TensorRT plan from a graph: parse, configure, build, and keep what was measured of the kernels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tapchanger_serving.build import log
from tapchanger_serving.build.exported import Exported
from tapchanger_serving.build.stores.volume import write_file
from tapchanger_serving.build.timing import reference_point
from tapchanger_serving.contract.messages import Gpu, Shapes
from tapchanger_serving.contract.plans import HardwareCompatibility

Shape = tuple[int, int]
_OPTIMIZATION_LEVEL = 3
"""TensorRT's own default, written down so that a new release doesn't change it unnoticed."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """One optimization profile: the shapes `[batch, tokens]` that it takes, and the one it is tuned for."""

    least: Shape
    best: Shape
    most: Shape


@dataclass(frozen=True, slots=True)
class Settings:
    """How a plan is built. `workspace` is the most scratch memory in bytes that a kernel may take."""

    inputs: tuple[str, ...]
    profiles: tuple[Bounds, ...]
    compatibility: HardwareCompatibility
    workspace: int

    @classmethod
    def of(cls, model: Exported, compatibility: HardwareCompatibility, free_memory: int) -> Settings:
        """For all shapes of the model; half of the free GPU memory (bytes) is left to the other candidates and to PyTorch."""
        shapes = Shapes(max_batch_size=model.max_batch_size, max_tokens=model.max_tokens)
        return cls(model.inputs, profiles(shapes), compatibility, free_memory // 2)


def profiles(shapes: Shapes) -> tuple[Bounds, ...]:
    """One profile for a single text, whose kernels know the batch, and one for all batches; engines take the first that fits."""
    batch, tokens = reference_point(shapes)
    most = shapes.max_batch_size, shapes.max_tokens
    single = Bounds((1, 1), (1, tokens), (1, shapes.max_tokens))
    if shapes.max_batch_size == 1:
        return (single,)
    return single, Bounds((1, 1), (batch, tokens), most)


@dataclass(frozen=True, slots=True)
class TimingCache:
    """What TensorRT has measured of its kernels on one GPU product with one release; `file` None keeps nothing."""

    file: Path | None

    @classmethod
    def of(cls, folder: Path | None, gpu: Gpu, version: str) -> TimingCache:
        """The cache in `folder` for this GPU and release of TensorRT."""
        if folder is None:
            return cls(None)
        product = re.sub(r"[^a-z0-9]+", "-", gpu.product.lower()).strip("-")
        return cls(folder / f"{product}-{gpu.compute_capability}-tensorrt-{version}.cache")

    def read(self) -> bytes:
        """What is kept; nothing where nothing is or can be read."""
        if self.file is None or not self.file.exists():
            return b""
        try:
            return self.file.read_bytes()
        except OSError as error:
            log.warning("read no timing cache", file=str(self.file), error=str(error))
            return b""

    def write(self, content: bytes) -> None:
        """Keeps it for the next build. Where the store has no room, the build goes on without."""
        if self.file is None:
            return
        try:
            write_file(self.file, content)
        except OSError as error:
            log.warning("kept no timing cache", file=str(self.file), error=str(error))


def build_plan(trt: Any, graph: Path, settings: Settings, cache: TimingCache) -> bytes:
    """The serialized engine. Raises RuntimeError with the parser's words, or where TensorRT builds none."""
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        raise RuntimeError("; ".join(parser.get_error(index).desc() for index in range(parser.num_errors)))
    config = builder.create_builder_config()
    _configure(trt, builder, config, settings)
    timings = config.create_timing_cache(cache.read())
    if timings is None or not config.set_timing_cache(timings, ignore_mismatch=False):
        log.warning("the timing cache is of another GPU or release; starting a new one", file=str(cache.file))
        timings = config.create_timing_cache(b"")
        config.set_timing_cache(timings, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError("TensorRT built no engine; the step's log has its reason")
    cache.write(bytes(timings.serialize()))
    return bytes(plan)


def _configure(trt: Any, builder: Any, config: Any, settings: Settings) -> None:
    config.clear_flag(trt.BuilderFlag.TF32)
    config.builder_optimization_level = _OPTIMIZATION_LEVEL
    levels = {
        "None": trt.HardwareCompatibilityLevel.NONE,
        "SameComputeCapability": trt.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY,
        "AmperePlus": trt.HardwareCompatibilityLevel.AMPERE_PLUS,
    }
    config.hardware_compatibility_level = levels[settings.compatibility]
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace)
    for bounds in settings.profiles:
        profile = builder.create_optimization_profile()
        for name in settings.inputs:
            profile.set_shape(name, min=bounds.least, opt=bounds.best, max=bounds.most)
        if config.add_optimization_profile(profile) < 0:
            raise RuntimeError(f"TensorRT refused the optimization profile {bounds}")
