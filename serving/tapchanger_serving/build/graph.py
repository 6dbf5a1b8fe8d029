"""Turns the PyTorch model into an ONNX graph with dynamic batch and length."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import torch

from tapchanger_serving.build.exported import EXTERNAL_FROM
from tapchanger_serving.build.failures import MODEL_FIELD, StepError
from tapchanger_serving.build.torch_model import Headed

HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}
"""Precisions for which GPUs get a graph of their own."""


def export_graph(headed: Headed, target: Path, output: str, *, max_tokens: int) -> None:
    """Writes `target`, for any batch and up to `max_tokens` tokens. Raises `ExportFailed` when PyTorch can't trace the model."""
    example = tuple(torch.ones((2, 16), dtype=torch.int64) for _ in headed.inputs)
    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens", max=max_tokens)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                headed,
                example,
                dynamo=True,
                input_names=list(headed.inputs),
                output_names=[output],
                dynamic_shapes=(tuple({0: batch, 1: tokens} for _ in headed.inputs),),
                external_data=False,
                optimize=True,
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        raise StepError(
            "ExportFailed",
            f"PyTorch could not export the model to ONNX: {str(error).strip().splitlines()[0]}",
            field=MODEL_FIELD,
            remedy="use a model of a more common architecture; the step's log has the exporter's own words",
        ) from error
    if program is None:
        raise StepError("ExportFailed", "PyTorch gave no ONNX program", field=MODEL_FIELD)
    size = sum(tensor.nbytes for tensor in headed.state_dict().values())
    program.save(str(target), external_data=size > EXTERNAL_FROM)
