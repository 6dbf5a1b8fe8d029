"""What a model answers on a set of texts, as one array that can be compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tapchanger_serving.build.exported import Exported
from tapchanger_serving.build.gates.metrics import mean_of
from tapchanger_serving.build.gates.resampling import bootstrap, wilson
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.contract.evidence import Interval
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
    rows = outputs(forward, texts, model)
    return rows if model.task == "feature-extraction" else scored(rows, model)


def scored(logits: Floats, model: Exported, temperature: float | None = None) -> Floats:
    """Scores `[texts, labels]` of a text classifier from its logits, as the server makes them."""
    return postprocess.classify(logits, model.activation, len(model.labels), temperature)


def outputs(forward: Forward, texts: Encoded, model: Exported) -> Floats:
    """Logits `[texts, dimensions]` of a text classifier, or embeddings `[texts, dim]`."""
    rows: list[Floats | None] = [None] * len(texts)
    for numbers, feeds in texts.batches():
        output = _finite(forward(feeds))
        if model.task == "feature-extraction":
            mask = _mask(texts.lengths()[numbers], output.shape[1])
            output = postprocess.pool(output, mask, model.pooling_or_default)
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
    """How close answers are to the reference's; figures that make no sense for the task are None.

    `count` is how many texts or tokens were compared, `interval` that of the agreement or of the mean cosine.
    """

    agreement: float | None = None
    cosine: float | None = None
    worst_cosine: float | None = None
    max_difference: float | None = None
    count: int = 0
    interval: Interval | None = None


def compare(found: Floats, reference: Floats, model: Exported) -> Fidelity:
    """Label agreement and largest score difference of classifiers; mean and worst cosine of embeddings.

    Where a text may have several labels, it agrees if all of them do.
    """
    difference, count = float(np.abs(found - reference).max(initial=0.0)), len(found)
    if model.task == "feature-extraction":
        likeness = cosine(found, reference)
        return Fidelity(
            cosine=float(likeness.mean()),
            worst_cosine=float(likeness.min()),
            max_difference=difference,
            count=count,
            interval=bootstrap(mean_of(likeness), count),
        )
    agreement = float(same_labels(found, reference, several=model.multi_label).mean())
    return Fidelity(agreement=agreement, max_difference=difference, count=count, interval=wilson(agreement, count))


def same_labels(found: Floats, reference: Floats, *, several: bool) -> npt.NDArray[np.bool_]:
    """Which rows of scores stand for the same label, or with `several` for the same labels."""
    equal: npt.NDArray[np.bool_] = (
        ((found > 0.5) == (reference > 0.5)).all(axis=1) if several else decided(found) == decided(reference)
    )
    return equal


def decided(scores: Floats) -> npt.NDArray[np.intp]:
    """The label that each row stands for: the best one; with a single score, 1 above one half and else 0."""
    if scores.shape[-1] == 1:
        return (scores[:, 0] > 0.5).astype(np.intp)
    best: npt.NDArray[np.intp] = scores.argmax(axis=-1)
    return best


def cosine(left: Floats, right: Floats) -> npt.NDArray[np.float64]:
    """The cosine of each row of `left` with that of `right`."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    likeness: npt.NDArray[np.float64] = np.einsum("ij,ij->i", a, b) / np.maximum(lengths, 1e-30)
    return likeness
