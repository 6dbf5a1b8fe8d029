"""OpenVINO engines."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from typing import Any

from tapchanger_serving.build.candidates.base import Bench
from tapchanger_serving.build.dataset import evenly
from tapchanger_serving.engines import EngineSpec

_RUNTIME = "openvino"
_FILE = "model.xml"
_CALIBRATION_TEXTS = 128


def fp32(bench: Bench) -> EngineSpec:
    """The graph in OpenVINO's own form, computed in fp32."""
    return _saved(bench, _read(bench), "fp32")


def bf16(bench: Bench) -> EngineSpec:
    """The same graph, computed in bf16."""
    return _saved(bench, _read(bench), "bf16", INFERENCE_PRECISION_HINT="bf16")


def int8(bench: Bench) -> EngineSpec:
    """Weights and activations in int8, with ranges from the calibration texts (static, NNCF's transformer scheme)."""
    # NNCF would report its use to its makers.
    os.environ["NNCF_CI"] = "1"
    import nncf

    nncf.set_log_level(logging.ERROR)
    texts = bench.calibration
    rows = evenly(len(texts), _CALIBRATION_TEXTS)
    samples = [texts.tokenizer.pad([texts.encodings[row]]) for row in rows]
    # NNCF draws progress bars, which have no place among JSON lines.
    with contextlib.redirect_stdout(io.StringIO()):
        quantized = nncf.quantize(
            _read(bench),
            nncf.Dataset(samples),
            subset_size=len(samples),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
        )
    return _saved(bench, quantized, "int8")


def _read(bench: Bench) -> Any:
    import openvino as ov

    return ov.Core().read_model(str(bench.graph))


def _saved(bench: Bench, model: Any, precision: str, **options: str) -> EngineSpec:
    import openvino as ov

    folder = bench.folder(_RUNTIME, precision)
    ov.save_model(model, str(folder / _FILE), compress_to_fp16=False)
    return bench.spec(_RUNTIME, folder / _FILE, **options)
