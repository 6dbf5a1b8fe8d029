"""Every call of TensorRT and of CUDA's driver in our sources is one that the real libraries have.

No engine is built: that takes a GPU, without which TensorRT makes no builder. What is checked are names, enum members,
parameters, their number and their types, followed through the sources, so that a new call is checked without being listed.
"""

from __future__ import annotations

import ast
import os
import platform
import re
import shutil
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from cuda.bindings import cydriver, driver

from dev.common import tensorrt
from tapchanger_serving.engines import cuda
from tests.support.tracing import Traced, read, trace

SERVING = Path(__file__).parents[3] / "serving/tapchanger_serving"
HOME = Path(os.environ.get("TAPCHANGER_HOME") or Path.home() / ".cache" / "tapchanger")

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="TensorRT's libraries are fetched for x86_64 only"
)


@pytest.fixture(scope="module")
def trt() -> ModuleType:
    """The real bindings with the real libraries below them."""
    if shutil.which("mvn") is None and not tensorrt.fetched(HOME):
        pytest.skip("TensorRT's libraries are fetched through Maven: install it to check our calls against them")
    tensorrt.load(HOME)
    return import_module("tensorrt_bindings")


def test_every_use_of_tensorrt_exists(trt: ModuleType) -> None:
    """All modules that mention it are followed, wherever they lie."""
    paths = [path for path in SERVING.rglob("*.py") if re.search(r"\btrt\b", path.read_text())]
    assert {path.name for path in paths} >= {"tensorrt.py", "tensorrt_plan.py"}
    found = trace(read(paths), trt)
    assert found.wrong == []
    # Both ends of the way: what follows them was reached.
    assert {"Builder.build_serialized_network", "IExecutionContext.execute_async_v3", "ParserError.desc"} <= found.seen


GOOD = """
def build(trt: Any, graph: str) -> bytes:
    builder = trt.Builder(trt.Logger(trt.Logger.WARNING))
    config = builder.create_builder_config()
    _set(trt, config)
    return builder.build_serialized_network(builder.create_network(), config)


def _set(trt: Any, config: Any) -> None:
    config.set_flag(trt.BuilderFlag.TF32)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, pool_size=1 << 20)
    config.builder_optimization_level = 3


class Engine:
    def __init__(self, trt: Any) -> None:
        self._runtime = trt.Runtime(trt.Logger())
        self._engine = self._runtime.deserialize_cuda_engine(b"")
        self._contexts = [self._engine.create_execution_context() for _ in range(2)]

    def run(self) -> None:
        for context in self._contexts:
            context.execute_async_v3(0)
"""
WRONG = {
    "Builder has no create_net": ("create_network()", "create_net()"),
    "BuilderFlag has no FP16": ("BuilderFlag.TF32", "BuilderFlag.FP16"),
    "tensorrt_bindings has no MemoryPool": ("MemoryPoolType.WORKSPACE", "MemoryPool.WORKSPACE"),
    "has no parameter size; it takes pool, pool_size": ("pool_size=", "size="),
    "IBuilderConfig.set_memory_pool_limit needs pool_size": (", pool_size=1 << 20", ""),
    "takes 0 arguments, and 1 are given": ("create_builder_config()", "create_builder_config(graph)"),
    "takes BuilderFlag as flag, and MemoryPoolType is given": ("BuilderFlag.TF32", "MemoryPoolType.WORKSPACE"),
    "takes INetworkDefinition as network, and IBuilderConfig is given": ("(builder.create_network(), ", "(config, "),
    "IBuilderConfig has no max_workspace_size": ("config.builder_optimization_level", "config.max_workspace_size"),
    "ICudaEngine.num_layers can't be set": ("for context in", "self._engine.num_layers = 1\n        for context in"),
    "IExecutionContext has no execute_async_v2": ("execute_async_v3(0)", "execute_async_v2(0)"),
    "nothing is known of the parameter config": ("    _set(trt, config)\n", ""),
    "write it out": ("trt.BuilderFlag.TF32", "getattr(trt.BuilderFlag, name)"),
}


def test_what_is_right_is_not_complained_of(trt: ModuleType) -> None:
    assert trace({"good.py": GOOD}, trt).wrong == []


@pytest.mark.parametrize("complaint", WRONG)
def test_what_is_wrong_is_named(trt: ModuleType, complaint: str) -> None:
    before, after = WRONG[complaint]
    assert GOOD.count(before) == 1
    found: Traced = trace({"wrong.py": GOOD.replace(before, after)}, trt)
    assert any(complaint in line for line in found.wrong), found.wrong


def driver_calls() -> dict[str, int]:
    """The driver's functions in our source, by name, with the number of arguments."""
    source = Path(cuda.__file__).read_text(encoding="utf-8")
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "_call"]
    return {ast.literal_eval(call.args[0]): len(call.args) - 1 for call in named}


def test_every_call_of_cudas_driver_exists() -> None:
    """NVIDIA's bindings declare what `cuda.h` has; the driver exports some under the name of their second version."""
    declared = Path(cydriver.__file__).with_name("cydriver.pxd").read_text(encoding="utf-8")
    functions = dict(re.findall(r"^cdef CUresult (cu\w+)\((.*)\) except", declared, re.MULTILINE))
    calls = driver_calls()
    assert len(calls) >= 12
    for name, count in calls.items():
        parameters = functions[name.removesuffix("_v2")]
        assert len([part for part in parameters.split(",") if part.strip()]) == count, name
    attributes = driver.CUdevice_attribute
    assert attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR == cuda._CAPABILITY_MAJOR
    assert attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR == cuda._CAPABILITY_MINOR
