"""What a model answers on a set of texts, as one array that can be compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tapchanger_serving.build.exported import Exported
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.engines import postprocess
from tapchanger_serving.engines.text import Tensors

Floats = npt.NDArray[np.float32]
Forward = Callable[[Tensors], Floats]


def answers(forward: Forward, texts: Encoded, model: Exported) -> Floats:
    """Scores `[texts, labels]`, token scores `[all tokens of all texts, labels]` or embeddings `[texts, dim]`.

    Token scores leave out each text's first and last token, which are the tokenizer's own.
    """
    if model.task == "token-classification":
        return _token_scores(forward, texts)
    rows: list[Floats | None] = [None] * len(texts)
    for numbers, feeds in texts.batches():
        output = _finite(forward(feeds))
        if model.task == "feature-extraction":
            mask = _mask(texts.lengths()[numbers], output.shape[1])
            output = postprocess.pool(output, mask, model.pooling_or_default)
        else:
            output = postprocess.classify(output, model.activation, len(model.labels))
        for number, row in zip(numbers, output, strict=True):
            rows[number] = row
    return np.stack([row for row in rows if row is not None])


def _token_scores(forward: Forward, texts: Encoded) -> Floats:
    lengths = texts.lengths()
    parts: list[Floats] = [np.empty((0, 0), dtype=np.float32)] * len(texts)
    for numbers, feeds in texts.batches():
        scores = postprocess.softmax(_finite(forward(feeds)))
        for number, row in zip(numbers, scores, strict=True):
            parts[number] = row[1 : max(lengths[number] - 1, 1)]
    return np.concatenate([part for part in parts if part.size])


def _finite(output: Floats) -> Floats:
    if not np.isfinite(output).all():
        msg = "the engine answered with NaN or infinity"
        raise ValueError(msg)
    return output


def _mask(lengths: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.int64]:
    return (np.arange(width) < lengths[:, None]).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How close answers are to the reference's; figures that make no sense for the task are None."""

    agreement: float | None = None
    cosine: float | None = None
    worst_cosine: float | None = None
    max_difference: float | None = None


def compare(found: Floats, reference: Floats, task: str) -> Fidelity:
    """Label agreement and largest score difference of classifiers; mean and worst cosine of embeddings."""
    difference = float(np.abs(found - reference).max(initial=0.0))
    if task == "feature-extraction":
        cosine = _cosine(found, reference)
        return Fidelity(cosine=float(cosine.mean()), worst_cosine=float(cosine.min()), max_difference=difference)
    same = decided(found) == decided(reference)
    return Fidelity(agreement=float(same.mean()), max_difference=difference)


def decided(scores: Floats) -> npt.NDArray[np.intp]:
    """The label that each row stands for: the best one; with a single score, 1 above one half and else 0."""
    if scores.shape[-1] == 1:
        return (scores[:, 0] > 0.5).astype(np.intp)
    best: npt.NDArray[np.intp] = scores.argmax(axis=-1)
    return best


def _cosine(left: Floats, right: Floats) -> npt.NDArray[np.float64]:
    a, b = left.astype(np.float64), right.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine: npt.NDArray[np.float64] = np.einsum("ij,ij->i", a, b) / np.maximum(lengths, 1e-30)
    return cosine
