"""Q/DQ pairs are symmetric, typed as the graph is, and placed once; ranges lose as little as they can."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tapchanger_serving.build.candidates.qdq import FP8, INT8, Format, products, quantize
from tapchanger_serving.build.candidates.ranges import Spread, spreads


def model(kind: int = TensorProto.FLOAT16) -> onnx.ModelProto:
    """`out = (x · first + x · second) · xᵀ`, with an embedding-like use of `first` elsewhere."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    random = np.random.default_rng(0)
    weights = {name: random.normal(size=(4, 3)).astype(dtype) for name in ("first", "second")}
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"]),
        helper.make_node("MatMul", ["x", "second"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Transpose", ["sum"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["sum", "turned"], ["scores"]),
        helper.make_node("MatMul", ["scores", "scores"], ["squared"]),
        helper.make_node("Shape", ["first"], ["shape"]),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", kind, ["rows", 4])],
        [
            helper.make_tensor_value_info("squared", kind, ["rows", "rows"]),
            helper.make_tensor_value_info("shape", TensorProto.INT64, [2]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    made.ir_version = 10
    return made


@pytest.mark.parametrize("form", [INT8, FP8], ids=["int8", "fp8"])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.FLOAT], ids=["in fp16", "in fp32"])
def test_products_with_weights_get_pairs_and_others_stay(form: Format, kind: int) -> None:
    found = model(kind)
    quantize(found, {"x": 2.0}, form)
    onnx.checker.check_model(found, full_check=True)
    kinds = [node.op_type for node in found.graph.node]
    # One activation that two products share, and two weights, which are stored in 8 bits already.
    assert (kinds.count("QuantizeLinear"), kinds.count("DequantizeLinear")) == (1, 3)
    constants = {tensor.name: tensor for tensor in found.graph.initializer}
    small = helper.np_dtype_to_tensor_dtype(np.dtype(form.dtype))
    assert constants["first_quantized"].data_type == constants["x_zero"].data_type == small
    assert constants["x_scale"].data_type == constants["second_scale"].data_type == kind
    for name, tensor in constants.items():
        if name.endswith("_zero"):
            assert not numpy_helper.to_array(tensor).astype(np.float32).any()
            assert tensor.dims == constants[name.replace("_zero", "_scale")].dims
    # `first` is read elsewhere, `second` is not.
    assert "first" in constants
    assert "second" not in constants
    assert products(found.graph) == []


def test_weights_lose_at_most_half_a_step_per_output() -> None:
    weights = np.random.default_rng(1).normal(size=(64, 8)).astype(np.float32) * np.logspace(-2, 1, 8, dtype=np.float32)
    scale = INT8.scale(np.abs(weights).max(axis=0), np.float32)
    again = INT8.stored(weights, scale).astype(np.float32) * scale
    assert (np.abs(again - weights) <= scale / 2 * 1.0001).all()


def test_what_is_too_large_saturates_and_zeros_have_a_scale() -> None:
    for form in (INT8, FP8):
        stored = form.stored(np.array([1e6, -1e6], dtype=np.float32), np.float32(1.0)).astype(np.float32)
        assert stored.tolist() == [form.largest, -form.largest]
        assert form.scale(np.zeros(2), np.float16).min() > 0


def test_a_graph_without_products_is_refused() -> None:
    empty = model()
    del empty.graph.initializer[:]
    with pytest.raises(ValueError, match="nothing to quantize"):
        quantize(empty, {}, INT8)


def test_the_range_gives_up_outliers_for_finer_steps() -> None:
    values = np.abs(np.random.default_rng(2).normal(size=200_000))

    def clip(*outliers: float) -> float:
        largest = max(values.max(), *outliers, 0.0)
        counts = np.histogram([*values, *outliers], bins=2048, range=(0.0, largest))[0]
        return Spread(float(largest), counts).clip(127)

    # For normal numbers in 8 bits the least error is at some four standard deviations.
    assert 3.5 < clip() < 4.5
    # One number at 40: the derivative of (40 - c)² + n (c / 127)² / 12 is 0 here.
    assert clip(40.0) == pytest.approx(40 / (1 + len(values) / (12 * 127**2)), abs=0.4)
    assert clip(*[40.0] * 2_000) > 39.0


def test_spreads_are_those_of_the_samples_and_infinite_numbers_are_named(tmp_path: Path) -> None:
    graph = tmp_path / "model.onnx"
    onnx.save(model(), graph)
    samples = [{"x": np.full((2, 4), size, dtype=np.float16)} for size in (1.0, -3.0)]
    found = spreads(graph, ["x", "sum"], samples, tmp_path)
    assert found["x"].largest == 3.0
    assert (found["x"].counts.sum(), found["x"].counts[-1], found["sum"].counts.sum()) == (16, 8, 12)
    assert list(tmp_path.iterdir()) == [graph]
    no_numbers = [samples[0], {"x": np.full((2, 4), np.nan, dtype=np.float16)}, samples[1]]
    with pytest.raises(ValueError, match="tensor x is not finite"):
        spreads(graph, ["x"], no_numbers, tmp_path)
    too_large = [{"x": np.full((2, 4), 6e4, dtype=np.float16)}]
    with pytest.raises(ValueError, match=r"tensor s\w+ is not finite on the calibration texts"):
        spreads(graph, ["x", "sum", "scores"], too_large, tmp_path)
