"""TensorRT, as far as it can be checked without a GPU: the calls in their order, and that the real bindings have them."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tapchanger_serving.build.candidates.tensorrt import build_plan
from tapchanger_serving.contract.messages import Hardware
from tapchanger_serving.engines import EngineSpec
from tapchanger_serving.engines.cuda import Stream
from tapchanger_serving.engines.tensorrt import TensorRtEngine

INPUTS = ("input_ids", "attention_mask")


class Cuda:
    """The driver with memory in a dictionary; it remembers the order of its calls."""

    def __init__(self) -> None:
        self.memory: dict[int, bytearray] = {}
        self.calls: list[str] = []
        self.next = 4096

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            handler = getattr(self, f"_{name}", None) if not name.startswith("_") else None
            return handler(*arguments) if handler else 0

        if name.startswith("_"):
            raise AttributeError(name)
        return call

    def _cuStreamCreate(self, stream: Any, flags: int) -> int:  # noqa: N802 - the library's name
        stream._obj.value = 77
        return 0

    def _cuMemAlloc_v2(self, pointer: Any, size: ctypes.c_size_t) -> int:  # noqa: N802 - the library's name
        self.memory[self.next] = bytearray(size.value)
        pointer._obj.value = self.next
        self.next += 1 << 20
        return 0

    def _cuMemFree_v2(self, pointer: ctypes.c_uint64) -> int:  # noqa: N802 - the library's name
        return 0 if self.memory.pop(pointer.value, None) is not None else 1

    def _cuMemcpyHtoDAsync_v2(self, target: Any, source: Any, size: Any, stream: Any) -> int:  # noqa: N802 - the library's name
        self.memory[target.value][: size.value] = ctypes.string_at(source, size.value)
        return 0

    def _cuMemcpyDtoHAsync_v2(self, target: Any, source: Any, size: Any, stream: Any) -> int:  # noqa: N802 - the library's name
        ctypes.memmove(target, bytes(self.memory[source.value][: size.value]), size.value)
        return 0


class Context:
    """An engine that adds its inputs and gives the sum twice per token."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = tuple(shape)
        return shape[0] <= 4

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (*self.shapes["input_ids"], 2)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == 77
        count = int(np.prod(self.shapes["input_ids"]))
        total = sum(np.frombuffer(self.cuda.memory[self.addresses[name]], dtype=np.int64)[:count] for name in INPUTS)
        answer = np.repeat(np.asarray(total, dtype=np.float32), 2).tobytes()
        self.cuda.memory[self.addresses["hidden"]][: len(answer)] = answer
        return True


def engine(tmp_path: Path, cuda: Cuda, *, valid: bool = True) -> TensorRtEngine:
    (tmp_path / "model.plan").write_bytes(b"plan")
    inside = SimpleNamespace(create_execution_context=lambda: Context(cuda))
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda data: inside if valid and data == b"plan" else None)
    trt = SimpleNamespace(
        Logger=type("Logger", (), {"WARNING": 1, "__init__": lambda self, level: None}), Runtime=lambda logger: runtime
    )
    spec = EngineSpec("tensorrt", tmp_path / "model.plan", INPUTS, "hidden")
    return TensorRtEngine(spec, trt, Stream(library=cuda))


def test_an_engine_copies_in_runs_and_copies_out_in_batches_of_any_size(tmp_path: Path) -> None:
    cuda = Cuda()
    opened = engine(tmp_path, cuda)
    for batch, tokens in ((1, 2), (4, 8), (2, 3)):
        ids = np.arange(batch * tokens, dtype=np.int64).reshape(batch, tokens)
        answer = opened.run({"input_ids": ids, "attention_mask": np.ones_like(ids)})
        assert answer.shape == (batch, tokens, 2)
        assert (answer[:, :, 0] == ids + 1).all()
    assert cuda.calls[-1] == "cuStreamSynchronize"
    opened.close()
    assert cuda.memory == {}


def test_a_batch_outside_the_profile_is_refused(tmp_path: Path) -> None:
    ids = np.ones((5, 2), dtype=np.int64)
    with pytest.raises(ValueError, match="outside the engine's profile"):
        engine(tmp_path, Cuda()).run({"input_ids": ids, "attention_mask": ids})


def test_a_plan_of_another_gpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="another GPU"):
        engine(tmp_path, Cuda(), valid=False)


def test_an_error_of_the_driver_names_the_call() -> None:
    class Broken(Cuda):
        def _cuInit(self, flags: int) -> int:  # noqa: N802 - the library's name
            return 100

    with pytest.raises(RuntimeError, match="cuInit failed with CUDA error 100"):
        Stream(library=Broken())


class Recorder:
    """Stands for the TensorRT module: every call is written down, and what matters is answered."""

    def __init__(self, *, parses: bool = True, builds: bool = True) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.Logger = type("Logger", (), {"WARNING": 1, "__init__": lambda self, level: None})
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
        self.BuilderFlag = SimpleNamespace(TF32="tf32")
        error = SimpleNamespace(desc=lambda: "no such operator")
        self.parser = SimpleNamespace(parse_from_file=lambda path: parses, num_errors=1, get_error=lambda index: error)
        self.profile = SimpleNamespace(set_shape=self.note("set_shape"))
        config = SimpleNamespace(clear_flag=self.note("clear_flag"), add_optimization_profile=self.note("add_profile"))
        self.builder = SimpleNamespace(
            create_network=self.note("create_network"),
            create_builder_config=lambda: config,
            create_optimization_profile=lambda: self.profile,
            build_serialized_network=lambda network, config: b"plan" if builds else None,
        )

    def note(self, name: str) -> Any:
        return lambda *arguments: self.calls.append((name, arguments))

    def Builder(self, logger: Any) -> Any:  # noqa: N802 - the library's name
        return self.builder

    def OnnxParser(self, network: Any, logger: Any) -> Any:  # noqa: N802 - the library's name
        return self.parser


def bench() -> Any:
    model = SimpleNamespace(inputs=INPUTS, max_batch_size=32, max_tokens=256)
    return SimpleNamespace(model=model, hardware=Hardware(arch="amd64"))


def test_a_plan_is_strongly_typed_and_covers_the_shapes(tmp_path: Path) -> None:
    trt = Recorder()
    assert build_plan(trt, tmp_path / "model.onnx", bench()) == b"plan"
    assert ("create_network", (2,)) in trt.calls
    assert ("clear_flag", ("tf32",)) in trt.calls
    assert [arguments for name, arguments in trt.calls if name == "set_shape"] == [
        (n, (1, 1), (8, 64), (32, 256)) for n in INPUTS
    ]
    assert trt.calls[-1] == ("add_profile", (trt.profile,))


def test_errors_of_the_parser_and_the_builder_are_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no such operator"):
        build_plan(Recorder(parses=False), tmp_path, bench())
    with pytest.raises(RuntimeError, match="built no engine"):
        build_plan(Recorder(builds=False), tmp_path, bench())


def test_the_real_bindings_have_every_name_that_is_used() -> None:
    trt = pytest.importorskip("tensorrt_bindings")
    assert trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED is not None
    assert trt.BuilderFlag.TF32 is not None
    wanted = {
        trt.Builder: (
            "create_network",
            "create_builder_config",
            "create_optimization_profile",
            "build_serialized_network",
        ),
        trt.OnnxParser: ("parse_from_file", "num_errors", "get_error"),
        trt.IBuilderConfig: ("clear_flag", "add_optimization_profile"),
        trt.IOptimizationProfile: ("set_shape",),
        trt.Runtime: ("deserialize_cuda_engine",),
        trt.ICudaEngine: ("create_execution_context",),
        trt.IExecutionContext: ("set_input_shape", "get_tensor_shape", "set_tensor_address", "execute_async_v3"),
    }
    assert [(kind, name) for kind, names in wanted.items() for name in names if not hasattr(kind, name)] == []
