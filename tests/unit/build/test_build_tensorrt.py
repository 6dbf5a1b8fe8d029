"""TensorRT, as far as it can be checked without a GPU: the calls in their order, by stand-ins for the driver and the library.

That the real libraries have these calls is what `tests/integration/build/test_tensorrt_api.py` checks.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tapchanger_serving.build.candidates import tensorrt
from tapchanger_serving.build.candidates.base import Bench
from tapchanger_serving.build.candidates.tensorrt_plan import Bounds, Settings, TimingCache, build_plan, profiles
from tapchanger_serving.contract.messages import Gpu, Hardware, Shapes
from tapchanger_serving.contract.plans import HardwareCompatibility, PlanNeeds, TensorRtOptions
from tapchanger_serving.engines import EngineSpec, UnsupportedRuntimeError
from tapchanger_serving.engines.cuda import Stream
from tapchanger_serving.engines.tensorrt import TensorRtEngine

INPUTS = ("input_ids", "attention_mask")
L4 = Gpu(product="NVIDIA L4", compute_capability="8.9", driver="580")
NEEDS = PlanNeeds(version="11.2.1.2", compute_capability="8.9", profiles=2)


class Cuda:
    """The driver with memory in a dictionary; it remembers the order of its calls."""

    def __init__(self, capability: tuple[int, int] = (8, 9)) -> None:
        self.memory: dict[int, bytearray] = {}
        self.calls: list[str] = []
        self.next = 4096
        self.attributes = dict(zip((75, 76), capability, strict=True))

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            handler = getattr(self, f"_{name}", None) if not name.startswith("_") else None
            return handler(*arguments) if handler else 0

        if name.startswith("_"):
            raise AttributeError(name)
        return call

    def _cuDeviceGetAttribute(self, value: Any, number: int, device: Any) -> int:  # noqa: N802 - the library's name
        value._obj.value = self.attributes[number]
        return 0

    def _cuMemGetInfo_v2(self, free: Any, total: Any) -> int:  # noqa: N802 - the library's name
        free._obj.value, total._obj.value = 6 << 30, 24 << 30
        return 0

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

    def __init__(self, cuda: Cuda, ran: list[int]) -> None:
        self.cuda = cuda
        self.ran = ran
        self.profile = 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.profile = index
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (*self.shapes["input_ids"], 2)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == 77
        self.ran.append(self.profile)
        count = int(np.prod(self.shapes["input_ids"]))
        total = sum(np.frombuffer(self.cuda.memory[self.addresses[name]], dtype=np.int64)[:count] for name in INPUTS)
        answer = np.repeat(np.asarray(total, dtype=np.float32), 2).tobytes()
        self.cuda.memory[self.addresses["hidden"]][: len(answer)] = answer
        return True


class Library:
    """Stands for the TensorRT module where an engine is loaded: two profiles, for one text and for up to four."""

    __version__ = "11.2.1.2"
    ExecutionContextAllocationStrategy = SimpleNamespace(ON_PROFILE_CHANGE="on profile change")

    def __init__(self, cuda: Cuda, *, valid: bool = True) -> None:
        self.ran: list[int] = []
        self.loaded = 0
        self.valid = valid
        self.Logger = type("Logger", (), {"WARNING": 1, "__init__": lambda self, level: None})
        bounds = [[(1, 1), (1, 64), (1, 8)], [(1, 1), (4, 8), (4, 8)]]
        self.engine = SimpleNamespace(
            num_optimization_profiles=2,
            get_tensor_profile_shape=lambda name, index: bounds[index],
            create_execution_context=lambda strategy: Context(cuda, self.ran),
        )

    def Runtime(self, logger: Any) -> Any:  # noqa: N802 - the library's name
        self.loaded += 1
        return SimpleNamespace(deserialize_cuda_engine=lambda data: self.engine if self.valid else None)


def engine(tmp_path: Path, cuda: Cuda, trt: Library, needs: PlanNeeds = NEEDS) -> TensorRtEngine:
    (tmp_path / "model.plan").write_bytes(b"plan")
    spec = EngineSpec("tensorrt", tmp_path / "model.plan", INPUTS, "hidden", options=needs.options())
    return TensorRtEngine(spec, trt, Stream(library=cuda))


def test_an_engine_copies_in_runs_and_copies_out_in_batches_of_any_size(tmp_path: Path) -> None:
    cuda = Cuda()
    opened = engine(tmp_path, cuda, Library(cuda))
    for batch, tokens in ((1, 2), (4, 8), (2, 3)):
        ids = np.arange(batch * tokens, dtype=np.int64).reshape(batch, tokens)
        answer = opened.run({"input_ids": ids, "attention_mask": np.ones_like(ids)})
        assert answer.shape == (batch, tokens, 2)
        assert (answer[:, :, 0] == ids + 1).all()
    assert cuda.calls[-1] == "cuStreamSynchronize"
    opened.close()
    assert cuda.memory == {}


def test_a_batch_goes_to_the_first_profile_that_takes_it(tmp_path: Path) -> None:
    cuda = Cuda()
    trt = Library(cuda)
    opened = engine(tmp_path, cuda, trt)
    for batch in (1, 3, 1, 4):
        ids = np.ones((batch, 2), dtype=np.int64)
        opened.run({"input_ids": ids, "attention_mask": ids})
    assert trt.ran == [0, 1, 0, 1]


@pytest.mark.parametrize("shape", [(5, 2), (1, 9)])
def test_a_batch_outside_the_profiles_is_refused(tmp_path: Path, shape: tuple[int, int]) -> None:
    cuda, ids = Cuda(), np.ones(shape, dtype=np.int64)
    with pytest.raises(ValueError, match=r"outside the engine's profiles: \(1, 1\) to \(1, 8\), \(1, 1\) to \(4, 8\)"):
        engine(tmp_path, cuda, Library(cuda)).run({"input_ids": ids, "attention_mask": ids})


def test_a_plan_that_does_not_load_is_refused_and_frees_the_stream(tmp_path: Path) -> None:
    cuda = Cuda()
    with pytest.raises(RuntimeError, match="another GPU"):
        engine(tmp_path, cuda, Library(cuda, valid=False))
    assert cuda.calls[-1] == "cuStreamDestroy_v2"


@pytest.mark.parametrize(
    ("needs", "capability", "words"),
    [
        (
            NEEDS,
            (8, 6),
            "built for compute capability 8.9, and here is 8.6; keep builds and servers on one GPU product",
        ),
        (NEEDS.model_copy(update={"version": "11.1.0.9"}), (8, 9), "with TensorRT 11.1.0.9, and here is 11.2.1.2"),
        (NEEDS.model_copy(update={"hardware_compatibility": "SameComputeCapability"}), (9, 0), "and here is 9.0"),
        (NEEDS.model_copy(update={"hardware_compatibility": "AmperePlus"}), (7, 5), "from compute capability 8.0 on"),
    ],
    ids=["GPU", "release", "same compute capability", "Ampere and later"],
)
def test_a_plan_that_can_not_run_here_is_not_even_loaded(
    tmp_path: Path, needs: PlanNeeds, capability: tuple[int, int], words: str
) -> None:
    cuda = Cuda(capability)
    trt = Library(cuda)
    with pytest.raises(UnsupportedRuntimeError, match=words):
        engine(tmp_path, cuda, trt, needs)
    assert trt.loaded == 0
    assert cuda.calls[-1] == "cuStreamDestroy_v2"


def test_a_compatible_plan_runs_on_other_gpus_and_one_without_notes_is_tried(tmp_path: Path) -> None:
    cuda = Cuda((10, 0))
    engine(tmp_path, cuda, Library(cuda), NEEDS.model_copy(update={"hardware_compatibility": "AmperePlus"}))
    engine(tmp_path, cuda, Library(cuda), PlanNeeds())


def test_what_a_plan_needs_survives_the_manifest() -> None:
    assert PlanNeeds.of(NEEDS.options()) == NEEDS
    assert NEEDS.options() == {
        "version": "11.2.1.2", "computeCapability": "8.9", "hardwareCompatibility": "None", "profiles": "2",
    }  # fmt: skip
    assert TensorRtOptions().chosen is None
    assert TensorRtOptions(hardware_compatibility="AmperePlus").chosen is not None


def test_without_a_gpu_the_driver_s_word_is_told() -> None:
    class Broken(Cuda):
        def _cuInit(self, flags: int) -> int:  # noqa: N802 - the library's name
            return 100

    with pytest.raises(
        UnsupportedRuntimeError, match="needs a GPU, and the driver finds none: cuInit failed with CUDA"
    ):
        Stream(library=Broken())


def test_an_error_of_the_driver_names_the_call() -> None:
    class Full(Cuda):
        def _cuMemAlloc_v2(self, pointer: Any, size: Any) -> int:  # noqa: N802 - the library's name
            return 2

    stream = Stream(library=Full())
    assert stream.free_memory() == 6 << 30
    with pytest.raises(RuntimeError, match="cuMemAlloc_v2 failed with CUDA error 2"):
        stream.buffer().reserve(1)


class Recorder:
    """Stands for the TensorRT module where a plan is built: every call is written down, and what matters is answered."""

    __version__ = "11.2.1.2"

    def __init__(self, *, parses: bool = True, builds: bool = True, takes: bool = True) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.takes = takes
        self.Logger = type("Logger", (), {"WARNING": 1, "__init__": lambda self, level: None})
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
        self.BuilderFlag = SimpleNamespace(TF32="tf32")
        self.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
        self.HardwareCompatibilityLevel = SimpleNamespace(
            NONE="none", SAME_COMPUTE_CAPABILITY="same", AMPERE_PLUS="ampere"
        )
        error = SimpleNamespace(desc=lambda: "no such operator")
        self.parser = SimpleNamespace(
            parse_from_file=lambda path: (self.calls.append(("parse", path)), parses)[1],  # type: ignore[func-returns-value]
            num_errors=1,
            get_error=lambda index: error,
        )
        self.config = SimpleNamespace(
            clear_flag=self.note("clear_flag"),
            set_memory_pool_limit=self.note("limit"),
            add_optimization_profile=lambda profile: self.calls.append(("add",)) or 0,  # type: ignore[func-returns-value]
            create_timing_cache=lambda data: SimpleNamespace(serialize=lambda: data + b"+measured"),
            set_timing_cache=self.set_timing_cache,
        )
        self.builder = SimpleNamespace(
            create_network=self.note("create_network"),
            create_builder_config=lambda: self.config,
            create_optimization_profile=lambda: SimpleNamespace(set_shape=self.set_shape),
            build_serialized_network=lambda network, config: b"plan" if builds else None,
        )

    def set_shape(self, name: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002 - the library's names
        self.calls.append(("set_shape", name, min, opt, max))

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        taken = self.takes or cache.serialize() == b"+measured"
        self.calls.append(("timings", cache.serialize(), taken))
        return taken

    def note(self, name: str) -> Any:
        return lambda *arguments: self.calls.append((name, *arguments))

    def Builder(self, logger: Any) -> Any:  # noqa: N802 - the library's name
        return self.builder

    def OnnxParser(self, network: Any, logger: Any) -> Any:  # noqa: N802 - the library's name
        return self.parser


def settings(compatibility: HardwareCompatibility = "None") -> Settings:
    model: Any = SimpleNamespace(inputs=INPUTS, max_batch_size=32, max_tokens=256)
    return Settings.of(model, compatibility, 6 << 30)


def test_a_plan_is_strongly_typed_and_its_profiles_cover_the_shapes(tmp_path: Path) -> None:
    trt = Recorder()
    assert build_plan(trt, tmp_path / "model.onnx", settings("AmperePlus"), TimingCache(None)) == b"plan"
    assert ("create_network", 2) in trt.calls
    assert ("clear_flag", "tf32") in trt.calls
    assert ("limit", "workspace", 3 << 30) in trt.calls
    assert (trt.config.builder_optimization_level, trt.config.hardware_compatibility_level) == (3, "ampere")
    shapes = [call[1:] for call in trt.calls if call[0] == "set_shape"]
    assert shapes == [
        *((name, (1, 1), (1, 64), (1, 256)) for name in INPUTS),
        *((name, (1, 1), (8, 64), (32, 256)) for name in INPUTS),
    ]
    assert trt.calls.count(("add",)) == 2


def test_a_candidate_says_what_its_plan_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt, cuda = Recorder(), Cuda()
    monkeypatch.setattr(tensorrt, "library", lambda: trt)
    monkeypatch.setattr(tensorrt, "Stream", lambda: Stream(library=cuda))
    model: Any = SimpleNamespace(inputs=INPUTS, output="hidden", max_batch_size=32, max_tokens=256)
    texts: Any = None
    bench = Bench(
        tmp_path, tmp_path / "work", model, Hardware(arch="amd64", gpu=L4), texts, timings=tmp_path / "timings",
        tensorrt=TensorRtOptions(hardware_compatibility="SameComputeCapability"),
    )  # fmt: skip
    spec = tensorrt.bf16(bench).spec
    assert spec.file.read_bytes() == b"plan"
    assert [path.name for path in spec.file.parent.iterdir()] == ["model.plan"]
    needs = PlanNeeds.of(spec.options)
    assert needs == NEEDS.model_copy(update={"hardware_compatibility": "SameComputeCapability"})
    assert ("parse", str(tmp_path / "model-bf16.onnx")) in trt.calls
    assert cuda.calls[-1] == "cuStreamDestroy_v2"
    assert len(list((tmp_path / "timings").iterdir())) == 1


def test_one_text_at_a_time_needs_one_profile() -> None:
    assert profiles(Shapes(max_batch_size=1, max_tokens=32)) == (Bounds((1, 1), (1, 32), (1, 32)),)


def test_timings_are_kept_by_gpu_and_release_and_used_by_the_next_build(tmp_path: Path) -> None:
    cache = TimingCache.of(tmp_path / "timings", L4, "11.2.1.2")
    for kept in (b"+measured", b"+measured+measured"):
        build_plan(Recorder(), tmp_path / "model.onnx", settings(), cache)
        assert (tmp_path / "timings/nvidia-l4-8.9-tensorrt-11.2.1.2.cache").read_bytes() == kept
    assert [path.name for path in (tmp_path / "timings").iterdir()] == ["nvidia-l4-8.9-tensorrt-11.2.1.2.cache"]


def test_timings_that_do_not_fit_are_begun_anew(tmp_path: Path) -> None:
    cache = TimingCache(tmp_path / "old.cache")
    cache.write(b"of another driver")
    trt = Recorder(takes=False)
    build_plan(trt, tmp_path / "model.onnx", settings(), cache)
    assert [call[2] for call in trt.calls if call[0] == "timings"] == [False, True]
    assert cache.read() == b"+measured"


def test_a_full_store_costs_only_the_timings(tmp_path: Path) -> None:
    (tmp_path / "timings").write_text("a file where the folder would be")
    cache = TimingCache(tmp_path / "timings/l4.cache")
    assert build_plan(Recorder(), tmp_path / "model.onnx", settings(), cache) == b"plan"
    assert cache.read() == b""


def test_errors_of_the_parser_and_the_builder_are_told_and_keep_no_timings(tmp_path: Path) -> None:
    cache = TimingCache(tmp_path / "l4.cache")
    with pytest.raises(RuntimeError, match="no such operator"):
        build_plan(Recorder(parses=False), tmp_path, settings(), cache)
    with pytest.raises(RuntimeError, match="built no engine"):
        build_plan(Recorder(builds=False), tmp_path, settings(), cache)
    assert cache.read() == b""
