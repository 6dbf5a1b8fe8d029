"""Products whose inputs have outliers are named first."""

from __future__ import annotations

import itertools

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from tapchanger_serving.build.candidates.openvino import smallest
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


SHARES = (0.1, 0.2, 0.3, 0.4)


@pytest.mark.parametrize("needed", [*SHARES, 0.5])
def test_as_few_products_as_suffice_are_left_out_and_few_are_tried(needed: float) -> None:
    tried: list[float] = []

    def leaving(share: float) -> tuple[float, bool]:
        tried.append(share)
        return share, share >= needed

    assert smallest(SHARES, leaving, lambda: 0.0) == min(needed, SHARES[-1])
    assert len(tried) <= 3


def test_no_further_try_begins_after_the_time_is_over() -> None:
    clock = itertools.count(0.0, 100.0)
    assert smallest(SHARES, lambda share: (share, False), lambda: next(clock)) == 0.3
