"""Products whose inputs have outliers are named first."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from tapchanger_serving.build.candidates.outliers import by_outliers


def test_the_product_after_the_outlier_comes_first_and_weightless_ones_are_left_out() -> None:
    tokens = ops.parameter([2, 4], dtype=np.float32, name="tokens")
    square = np.eye(4, dtype=np.float32)
    calm = ops.matmul(tokens, ops.constant(square), False, False, name="calm")
    spiky = ops.multiply(calm, ops.constant(np.array([1, 1, 1, 900], dtype=np.float32)))
    wild = ops.matmul(spiky, ops.constant(square), False, False, name="wild")
    both = ops.matmul(wild, tokens, False, True, name="two activations")
    model = ov.Model([both], [tokens])
    sample = {"tokens": np.ones((2, 4), dtype=np.float32)}
    assert by_outliers(model, [sample, sample]) == ["wild", "calm"]
    assert len(model.outputs) == 1
