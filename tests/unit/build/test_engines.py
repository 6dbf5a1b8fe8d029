"""Engines of both CPU runtimes give the graph's answers for any shape."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tapchanger_serving.engines import EngineSpec, UnsupportedRuntimeError, open_engine
from tapchanger_serving.engines.base import SmallBatches
from tapchanger_serving.engines.parted import PartedEngine

INPUTS = ("input_ids", "attention_mask")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`hidden = input_ids * attention_mask`, as floats."""
    shape = ["batch", "tokens"]
    nodes = [
        helper.make_node("Mul", list(INPUTS), ["product"]),
        helper.make_node("Cast", ["product"], ["hidden"], to=TensorProto.FLOAT),
    ]
    tensors = [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in INPUTS]
    output = helper.make_tensor_value_info("hidden", TensorProto.FLOAT, shape)
    model = helper.make_model(
        helper.make_graph(nodes, "product", tensors, [output]), opset_imports=[helper.make_opsetid("", 20)]
    )
    model.ir_version = 10
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("threads", [0, 1])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_engine_answers_for_any_shape_and_ignores_extra_inputs(graph: Path, runtime: str, threads: int) -> None:
    engine = open_engine(EngineSpec(runtime, graph, INPUTS, "hidden", threads=threads))
    answers = []
    for shape in ((1, 1), (3, 7), (2, 64)):
        ids = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
        mask = ids % 2
        answers.append((engine.run({"input_ids": ids, "attention_mask": mask, "token_type_ids": ids}), ids * mask))
    # An answer stays what it was when the engine runs again.
    for answer, expected in answers:
        assert answer.dtype == np.float32
        assert (answer == expected).all()
    engine.close()


def test_an_unknown_runtime_is_named(graph: Path) -> None:
    with pytest.raises(UnsupportedRuntimeError, match="'tvm' is unknown"):
        open_engine(EngineSpec("tvm", graph, INPUTS, "hidden"))


def test_tensorrt_without_its_library_or_a_gpu_is_refused(graph: Path) -> None:
    with pytest.raises((UnsupportedRuntimeError, RuntimeError)):
        open_engine(EngineSpec("tensorrt", graph, INPUTS, "hidden"))


def test_small_batches_go_to_the_engine_for_them(graph: Path) -> None:
    large = EngineSpec("openvino", graph, INPUTS, "hidden")
    small = EngineSpec("onnxruntime", graph, INPUTS, "hidden", threads=1)
    engine = open_engine(replace(large, small=SmallBatches(8, small)))
    assert isinstance(engine, PartedEngine)
    alone = open_engine(large)
    for rows in (1, 2, 3):
        feeds = {name: np.ones((rows, 4), dtype=np.int64) for name in INPUTS}
        np.testing.assert_allclose(engine.run(feeds), alone.run(feeds), rtol=1e-4, atol=1e-5)
    engine.close()


def test_the_border_counts_padding() -> None:
    ran: list[str] = []

    class Spy:
        def __init__(self, name: str) -> None:
            self.name = name

        def run(self, feeds: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
            ran.append(self.name)
            return np.zeros(1, dtype=np.float32)

        def close(self) -> None:
            ran.append(f"closed {self.name}")

    engine = PartedEngine(Spy("small"), Spy("large"), 8)
    for shape in ((2, 4), (3, 3), (1, 8), (1, 9)):
        engine.run({"input_ids": np.ones(shape, dtype=np.int64)})
    engine.close()
    assert ran == ["small", "large", "small", "large", "closed small", "closed large"]


_HANDLED = """
import gc, signal, sys
from pathlib import Path
import numpy as np
from tapchanger_serving.engines import EngineSpec, open_engine
spec = EngineSpec("openvino", Path(sys.argv[1]), ("input_ids", "attention_mask"), "hidden")
engines = [open_engine(spec), open_engine(spec)]
for engine in engines:
    engine.run({name: np.ones((2, 4), dtype=np.int64) for name in spec.inputs})
    engine.close()
del engine, engines
gc.collect()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
signal.raise_signal(signal.SIGTERM)
"""


def test_a_signal_is_handled_after_engines_have_come_and_gone(graph: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _HANDLED, str(graph)], check=False)
    assert done.returncode == 7
