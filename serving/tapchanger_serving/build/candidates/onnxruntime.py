"""ONNX Runtime engines."""

from __future__ import annotations

import shutil

from tapchanger_serving.build.candidates.base import Bench, Made

_RUNTIME = "onnxruntime"
_FILE = "model.onnx"
_WIDE_PRODUCTS = {"avx512_vnni", "avx_vnni", "amx_int8", "i8mm"}


def fp32(bench: Bench) -> Made:
    """The graph as PyTorch exported it."""
    folder = bench.folder(_RUNTIME, "fp32")
    for path in bench.graph.parent.glob(f"{bench.graph.name}*"):
        shutil.copyfile(path, folder / path.name)
    return Made(bench.spec(_RUNTIME, folder / _FILE))


def int8(bench: Bench) -> Made:
    """Weights of matrix products in int8 per channel, activations quantized as they come (dynamic)."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    folder = bench.folder(_RUNTIME, "int8")
    # Without VNNI-like instructions, products of full-range 8-bit numbers overflow 16 bits.
    narrow = not _WIDE_PRODUCTS & set(bench.hardware.instruction_sets)
    quantize_dynamic(
        bench.graph,
        folder / _FILE,
        op_types_to_quantize=["MatMul", "Gemm"],
        per_channel=True,
        reduce_range=narrow,
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )
    return Made(bench.spec(_RUNTIME, folder / _FILE))
