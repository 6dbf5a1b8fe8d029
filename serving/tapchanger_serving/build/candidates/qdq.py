"""8-bit products in an ONNX graph, written as pairs of QuantizeLinear and DequantizeLinear.

TensorRT takes the precision of a layer from such pairs. Scales are symmetric (every zero point is 0), one per tensor for
activations; weights are stored in 8 bits and have a DequantizeLinear only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Format:
    """An 8-bit number format. `largest` is its largest number; `per_channel` gives each output of a product its own scale."""

    dtype: npt.DTypeLike
    largest: float
    per_channel: bool

    def scale(self, magnitude: Array, dtype: npt.DTypeLike) -> Array:
        """The scales by which magnitudes up to these fit, in the number format that the graph computes in."""
        least = np.finfo(np.float16).tiny
        scale: Array = np.maximum(np.asarray(magnitude, dtype=np.float32) / self.largest, least).astype(dtype)
        return scale

    def stored(self, values: Array, scale: Array) -> Array:
        """The numbers nearest to `values / scale`, saturated."""
        scaled = values.astype(np.float32) / scale.astype(np.float32)
        if np.issubdtype(np.dtype(self.dtype), np.integer):
            scaled = np.rint(scaled)
        return np.clip(scaled, -self.largest, self.largest).astype(self.dtype)


INT8 = Format(np.int8, 127.0, per_channel=True)
FP8 = Format(ml_dtypes.float8_e4m3fn, 448.0, per_channel=False)
"""E4M3 (Micikevicius et al., "FP8 formats for deep learning", 2022). Its steps grow with the numbers, so one scale suffices."""


def products(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The matrix products with constant weights `[in, out]`. Heads that see one token are Gemm nodes and stay as they are."""
    matrices = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    return [node for node in graph.node if node.op_type == "MatMul" and node.input[1] in matrices]


def quantize(model: onnx.ModelProto, clips: Mapping[str, float], form: Format) -> None:
    """Puts the matrix products of `model` in 8 bits. `clips` has the largest magnitude to keep of each activation they read.

    Raises ValueError when the graph has no such product.
    """
    graph = model.graph
    found = products(graph)
    if not found:
        raise ValueError("the graph has no matrix product with constant weights, so there is nothing to quantize")
    pairs = _Pairs({tensor.name: tensor for tensor in graph.initializer}, form)
    chosen = {node.output[0] for node in found}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.output[0] in chosen:
            nodes += pairs.before(node, clips)
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *pairs.constants])


class _Pairs:
    """What goes before the products, each tensor once; `constants` are the new initializers."""

    def __init__(self, initializers: Mapping[str, onnx.TensorProto], form: Format) -> None:
        self._initializers = initializers
        self._form = form
        self._done: dict[str, str] = {}
        self.constants: list[onnx.TensorProto] = []

    def before(self, product: onnx.NodeProto, clips: Mapping[str, float]) -> list[onnx.NodeProto]:
        """The nodes that `product` needs in front of it. Its inputs are replaced."""
        activation, weight = product.input
        values = numpy_helper.to_array(self._initializers[weight])
        nodes = []
        if activation not in self._done:
            nodes += self._activation(activation, clips[activation], values.dtype)
        if weight not in self._done:
            nodes.append(self._weight(weight, values))
        product.input[:] = [self._done[activation], self._done[weight]]
        return nodes

    def _activation(self, name: str, clip: float, dtype: npt.DTypeLike) -> list[onnx.NodeProto]:
        parameters = self._scaled(name, self._form.scale(np.array(clip), dtype))
        small, again = f"{name}_quantized", f"{name}_dequantized"
        self._done[name] = again
        return [
            helper.make_node("QuantizeLinear", [name, *parameters], [small], name=f"{name}_quantize"),
            helper.make_node("DequantizeLinear", [small, *parameters], [again], name=f"{name}_dequantize"),
        ]

    def _weight(self, name: str, values: Array) -> onnx.NodeProto:
        magnitude = np.abs(values.astype(np.float32)).max(axis=0 if self._form.per_channel else None)
        scale = self._form.scale(magnitude, values.dtype)
        small, again = f"{name}_quantized", f"{name}_dequantized"
        self.constants.append(numpy_helper.from_array(self._form.stored(values, scale), small))
        parameters = self._scaled(name, scale)
        self._done[name] = again
        axis = {"axis": 1} if self._form.per_channel else {}
        return helper.make_node("DequantizeLinear", [small, *parameters], [again], name=f"{name}_dequantize", **axis)

    def _scaled(self, name: str, scale: Array) -> tuple[str, str]:
        names = f"{name}_scale", f"{name}_zero"
        self.constants.append(numpy_helper.from_array(scale, names[0]))
        self.constants.append(numpy_helper.from_array(np.zeros(scale.shape, dtype=self._form.dtype), names[1]))
        return names
