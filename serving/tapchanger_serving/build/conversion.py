"""Turns a verified checkpoint into what the candidates are made from and compared with."""

from __future__ import annotations

import copy
import shutil
import time
from pathlib import Path

import numpy as np

from tapchanger_serving.build import log
from tapchanger_serving.build.answers import answers
from tapchanger_serving.build.checkpoint import Checkpoint, read_checkpoint
from tapchanger_serving.build.exported import GRAPH, REFERENCE, Exported, graph_of
from tapchanger_serving.build.graph import HALVES, export_graph
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.textset import Encoded, load_texts
from tapchanger_serving.build.tokenizer import place_tokenizer, require_same_tokens
from tapchanger_serving.build.torch_model import TorchModel, load_torch
from tapchanger_serving.build.weights import incomplete
from tapchanger_serving.contract.messages import BuildRequest
from tapchanger_serving.contract.names import HIDDEN, LOGITS
from tapchanger_serving.engines.text import TOKENIZER_FILE, Tokenizer


def convert(request: BuildRequest, places: Places) -> None:
    """Writes the graph, the tokenizer, the facts and the reference answers into `places.exported`."""
    shutil.rmtree(places.exported, ignore_errors=True)
    places.exported.mkdir(parents=True)
    checkpoint = read_checkpoint(places.checkpoint, request.task)
    place_tokenizer(checkpoint, places.exported)
    log.info("loading model", architecture=checkpoint.architecture, parameters=checkpoint.weights.parameters)
    model = load_torch(places.checkpoint, request.task, attention="eager")
    output = HIDDEN if request.task == "feature-extraction" else LOGITS
    export_graphs(request, places.exported, model, output, max_tokens=checkpoint.max_tokens)
    _write_reference(request, places, checkpoint, _facts(request, checkpoint, model, output), model)


def export_graphs(request: BuildRequest, folder: Path, model: TorchModel, output: str, *, max_tokens: int) -> None:
    """Writes the model's graph into `folder`, for a GPU also those in half precision."""
    started = time.monotonic()
    log.info("exporting graph")
    export_graph(model.headed, folder / GRAPH, output, max_tokens=max_tokens)
    if request.hardware.gpu is not None:
        for precision, kind in HALVES.items():
            half = copy.deepcopy(model.headed).to(kind)
            export_graph(half, folder / graph_of(precision), output, max_tokens=max_tokens)
    log.info("exported graph", inputs=model.headed.inputs, output=output, seconds=round(time.monotonic() - started, 2))


def _facts(request: BuildRequest, checkpoint: Checkpoint, model: TorchModel, output: str) -> Exported:
    sample = {name: np.ones((1, 4), dtype=np.int64) for name in model.headed.inputs}
    dimensions = int(model.run(sample).shape[-1])
    labels = checkpoint.labels
    if labels and dimensions not in (len(labels), 1):
        raise incomplete(f"the head gives {dimensions} figures and config.json names {len(labels)} labels")
    return Exported(
        task=request.task,
        inputs=model.headed.inputs,
        output=output,
        dimensions=dimensions,
        max_tokens=min(request.shapes.max_tokens, checkpoint.max_tokens),
        max_batch_size=request.shapes.max_batch_size,
        labels=labels,
        activation=checkpoint.activation,
        pooling=checkpoint.pooling,
        parameters=checkpoint.weights.parameters,
    )


def _write_reference(
    request: BuildRequest, places: Places, checkpoint: Checkpoint, facts: Exported, model: TorchModel
) -> None:
    facts.write(places.exported)
    tokenizer = Tokenizer(places.exported / TOKENIZER_FILE, facts.inputs, facts.max_tokens)
    started = time.monotonic()
    rows = load_texts(request, places.dataset(), tokenizer, facts.max_tokens)
    require_same_tokens(checkpoint, tokenizer, rows, facts.max_tokens)
    log.info("answering with PyTorch", texts=len(rows))
    apart = request.task == "feature-extraction"
    reference = answers(model.run, Encoded.of(tokenizer, rows, facts.max_batch_size, apart=apart), facts)
    np.savez(places.exported / REFERENCE, answers=reference)
    log.info("wrote reference answers", texts=len(rows), seconds=round(time.monotonic() - started, 2))
