"""OpenVINO engines."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from tapchanger_serving.build.candidates.base import Bench, Made
from tapchanger_serving.build.candidates.outliers import by_outliers
from tapchanger_serving.build.dataset import evenly
from tapchanger_serving.contract.messages import Hardware
from tapchanger_serving.engines import EngineSpec
from tapchanger_serving.engines.text import Tensors

_RUNTIME = "openvino"
_FILE = "model.xml"
_CALIBRATION_TEXTS = 128
_SAMPLES = 32
"""Of the calibration texts, those that outliers are looked for in."""
_SEARCH_SECONDS = 120.0
"""After so long no further try begins: quantizing a large model takes minutes."""
_LEFT_OUT = (1 / 8, 3 / 16, 1 / 4, 3 / 8)
"""Shares of the matrix products that are left out of int8, one after the other until the answers are close enough."""
_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}


def has_bf16(hardware: Hardware) -> bool:
    """Whether a CPU computes in bf16."""
    return bool(_BF16 & set(hardware.instruction_sets))


def fp32(bench: Bench) -> Made:
    """The graph in OpenVINO's own form, computed in fp32."""
    return Made(_saved(bench, _read(bench), "fp32"))


def bf16(bench: Bench) -> Made:
    """The same graph, computed in bf16."""
    return Made(_saved(bench, _read(bench), "bf16", INFERENCE_PRECISION_HINT="bf16"))


def int8(bench: Bench) -> Made:
    """Weights and activations in int8, with ranges from the calibration texts (static, NNCF's transformer scheme).

    Where that is too far from the reference, the products whose inputs have the worst outliers stay as they are, so few of
    them as suffice. What isn't int8 is bf16 where the CPU computes in it.
    """
    texts = bench.calibration
    samples = [texts.tokenizer.pad([texts.encodings[row]]) for row in evenly(len(texts), _CALIBRATION_TEXTS)]
    rest = "bf16" if has_bf16(bench.hardware) else "f32"
    made = Made(_quantized(bench, samples, (), rest, "int8"))
    if bench.faithful(made.spec):
        return made
    worst = by_outliers(_read(bench), samples[:_SAMPLES])

    def leaving(share: float) -> tuple[Made, bool]:
        kept = worst[: math.ceil(share * len(worst))]
        # The search keeps what it has while it tries others.
        spec = _quantized(bench, samples, kept, rest, f"int8-{len(kept)}")
        return Made(spec, f"{len(kept)} of {len(worst)} matrix products stay in {rest}"), bench.faithful(spec)

    found = smallest(_LEFT_OUT, leaving, time.monotonic)
    folder = found.spec.file.parent.rename(bench.folder(_RUNTIME, "int8"))
    return Made(replace(found.spec, file=folder / _FILE), found.note)


MadeT = TypeVar("MadeT")


def smallest(
    shares: Sequence[float], leaving: Callable[[float], tuple[MadeT, bool]], clock: Callable[[], float]
) -> MadeT:
    """What `leaving` makes of the smallest of the ascending `shares` that is close enough, by halving; else of the last."""
    ends = clock() + _SEARCH_SECONDS
    low, high = 0, len(shares)
    made: list[tuple[MadeT, bool]] = []
    while low < high and (not made or clock() < ends):
        middle = (low + high - 1) // 2
        made.append(leaving(shares[middle]))
        low, high = (low, middle) if made[-1][1] else (middle + 1, high)
    return next((one for one, close in reversed(made) if close), made[-1][0])


def _quantized(bench: Bench, samples: Sequence[Tensors], kept: Sequence[str], rest: str, name: str) -> EngineSpec:
    # NNCF would report its use to its makers.
    os.environ["NNCF_CI"] = "1"
    import nncf

    nncf.set_log_level(logging.ERROR)
    # NNCF draws progress bars, which have no place among JSON lines.
    with contextlib.redirect_stdout(io.StringIO()):
        quantized = nncf.quantize(
            _read(bench),
            nncf.Dataset(samples),
            subset_size=len(samples),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=list(kept)) if kept else None,
        )
    return _saved(bench, quantized, name, INFERENCE_PRECISION_HINT=rest)


def _read(bench: Bench) -> Any:
    import openvino as ov

    return ov.Core().read_model(str(bench.graph))


def _saved(bench: Bench, model: Any, name: str, **options: str) -> EngineSpec:
    import openvino as ov

    folder = bench.folder(_RUNTIME, name)
    ov.save_model(model, str(folder / _FILE), compress_to_fp16=False)
    return bench.spec(_RUNTIME, folder / _FILE, **options)
