"""What the texts of the reference look like to the chosen engine, so that servers can tell when traffic no longer does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tapchanger_serving.build import log
from tapchanger_serving.build.answers import outputs, scored
from tapchanger_serving.build.dataset import MAX_ROWS, Rows, evenly, read_texts
from tapchanger_serving.build.exported import Exported
from tapchanger_serving.build.failures import DRIFT_FIELD
from tapchanger_serving.build.gates.classified import Labelled, classified
from tapchanger_serving.build.gates.results import UnanswerableError
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.contract import names
from tapchanger_serving.contract.drift import REFERENCE_FILE
from tapchanger_serving.contract.messages import BuildRequest
from tapchanger_serving.engines.answers import Answers
from tapchanger_serving.engines.features import Describer, Known, Vocabulary, reference
from tapchanger_serving.engines.text import Tensors

MOST = MAX_ROWS
FEWEST = 30
"""Texts below which a reference says too little to compare with."""

Forward = Callable[[Tensors], npt.NDArray[np.float32]]


def reference_rows(request: BuildRequest, evaluation: Rows, data: Path | None) -> Rows | None:
    """The texts that the request wants traffic to be compared with: those of the drift data, else the evaluation data.

    None where there is neither; the built-in texts say nothing of anybody's traffic.
    """
    if request.drift_data is not None and data is not None:
        return read_texts(data, request.drift_data, MOST, DRIFT_FIELD)
    return evaluation if request.gates.evaluation is not None else None


def write_reference(
    rows: Rows, run: Forward, model: Exported, texts: Encoded, temperature: float | None, folder: Path
) -> dict[str, Path]:
    """Describes `rows`, of which `texts` are the tokens, and writes the artifact's file; its path by its name in the artifact.

    Nothing is written where there are fewer than :data:`FEWEST` texts.
    """
    if len(rows) < FEWEST:
        return {}
    known = describe(rows, run, model, texts, temperature)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / REFERENCE_FILE
    path.write_text(known.dumps())
    log.info("described reference for drift", texts=known.reference.texts, digest=known.reference.digest)
    return {REFERENCE_FILE: path}


def describe(rows: Rows, run: Forward, model: Exported, texts: Encoded, temperature: float | None) -> Known:
    """The reference, each text beside all others, and the vocabulary of them all."""
    picked = np.array(evenly(len(rows), MOST), dtype=np.intp)
    chosen = texts.take(picked)
    answers, right = _answers(rows, picked, run, model, chosen, temperature)
    tokenizer = texts.tokenizer
    size = tokenizer.largest_id() + 1
    documents = np.zeros(size, dtype=np.int64)
    for encoding in chosen.encodings:
        documents[np.unique(encoding.ids).astype(np.int64)] += 1
    describer = Describer.of(tokenizer, Vocabulary.of(documents, len(chosen)))
    told = []
    for row, (number, encoding) in enumerate(zip(picked, chosen.encodings, strict=True)):
        own = np.unique(encoding.ids).astype(np.int64)
        documents[own] -= 1
        told.append(describer.describe(rows.texts[number], encoding, answers, row, documents, len(chosen) - 1))
        documents[own] += 1
    sure = answers[names.SCORE][:, 0].astype(np.float64) if names.SCORE in answers else np.array([])
    return Known(reference(told, right, sure), Vocabulary.of(documents, len(chosen)))


def _answers(
    rows: Rows,
    picked: npt.NDArray[np.intp],
    run: Forward,
    model: Exported,
    texts: Encoded,
    temperature: float | None,
) -> tuple[Answers, npt.NDArray[np.bool_] | None]:
    """Answers as the server makes them, and which of them are right as far as labels say."""
    if model.task == "token-classification":
        return {}, None
    found = outputs(run, texts, model)
    if model.task == "feature-extraction":
        return {names.EMBEDDING: found}, None
    plain, scores = scored(found, model), scored(found, model, temperature)
    best = plain.argmax(axis=-1)
    labels = np.array([label.encode() for label in model.labels], dtype=np.object_)
    answers: Answers = {
        names.LABEL: labels[best][:, None],
        names.SCORE: np.take_along_axis(scores, best[:, None], axis=-1),
        names.SCORES: scores,
    }
    return answers, _right(rows, picked, plain, model)


def _right(
    rows: Rows, picked: npt.NDArray[np.intp], scores: npt.NDArray[np.float32], model: Exported
) -> npt.NDArray[np.bool_] | None:
    if rows.labels is None:
        return None
    try:
        found = classified(tuple(rows.labels[number] for number in picked), scores, model)
    except UnanswerableError:
        return None
    return ~found.wrong() if isinstance(found, Labelled) else None
