"""Engine outputs to answers: scores, embeddings and entities. Pure NumPy, vectorized over the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tapchanger_serving.contract.artifact import Pooling

Floats = npt.NDArray[np.float32]

OUTSIDE = "O"
"""The label of tokens that belong to no entity."""


def softmax(logits: Floats) -> Floats:
    """Softmax over the last axis, shifted by the maximum so that it can't overflow."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores: Floats = raised / raised.sum(axis=-1, keepdims=True)
    return scores


def sigmoid(logits: Floats) -> Floats:
    """The logistic function, as `(1 + tanh(x/2)) / 2` so that it can't overflow."""
    scores: Floats = np.float32(0.5) * (np.float32(1) + np.tanh(np.float32(0.5) * logits))
    return scores


def classify(
    logits: Floats, activation: Literal["softmax", "sigmoid"], labels: int, temperature: float | None = None
) -> Floats:
    """Scores `[batch, labels]` from logits `[batch, dimensions]`.

    One logit for two labels is the chance of the second, so that the first gets what is left. `temperature` divides the
    logits (Guo et al. 2017, On Calibration of Modern Neural Networks, eq. 9).
    """
    logits = np.asarray(logits, dtype=np.float32)
    if temperature is not None:
        logits = logits / np.float32(temperature)
    scores = softmax(logits) if activation == "softmax" else sigmoid(logits)
    if activation == "sigmoid" and labels == 2 and logits.shape[-1] == 1:
        scores = np.concatenate([np.float32(1) - scores, scores], axis=-1)
    return scores


def pool(hidden: Floats, mask: npt.NDArray[np.int64], pooling: Pooling) -> Floats:
    """Embeddings `[batch, dim]` from token states `[batch, tokens, dim]` and the attention mask `[batch, tokens]`.

    Mean pooling as in Sentence-BERT (Reimers and Gurevych, 2019, section 3); `normalize` gives length 1.
    """
    hidden = np.asarray(hidden, dtype=np.float32)
    attended = mask.astype(np.float32)[:, :, None]
    if pooling.mode == "cls":
        pooled = hidden[:, 0]
    elif pooling.mode == "max":
        pooled = np.where(attended > 0, hidden, np.float32(-np.inf)).max(axis=1)
    else:
        pooled = (hidden * attended).sum(axis=1) / np.maximum(attended.sum(axis=1), np.float32(1e-9))
    if pooling.normalize:
        pooled = pooled / np.maximum(np.linalg.norm(pooled, axis=-1, keepdims=True), np.float32(1e-12))
    embeddings: Floats = pooled.astype(np.float32, copy=False)
    return embeddings


class Entity(NamedTuple):
    """A span of characters `[start, end)` and what it is; `score` is the mean over its words."""

    entity: str
    score: float
    start: int
    end: int
    word: str


class Word(NamedTuple):
    """A word's place in the text, `[start, end)`, and its label with the label's score."""

    start: int
    end: int
    label: str
    score: float


def words(
    scores: Floats,
    offsets: Sequence[tuple[int, int]],
    numbers: Sequence[int | None],
    special: Sequence[int],
    text: str,
    labels: Sequence[str],
) -> list[Word]:
    """Words of one text, each with the label of its first token, as such models are trained and scored (Devlin et al. 2019,
    section 5.3): so an entity never begins or ends within a word.

    `scores` is `[tokens, labels]`; `numbers` says to which word of the tokenizer each token belongs. A tokenizer that takes
    whole texts for words is not believed: a blank before a token begins a word too.
    """
    found: list[Word] = []
    last: int | None = None
    for position, (start, end) in enumerate(offsets):
        if special[position]:
            continue
        while start < end and text[start].isspace():
            start += 1
        number = numbers[position]
        goes_on = found and number is not None and number == last and start <= found[-1].end
        last = number
        if goes_on:
            found[-1] = found[-1]._replace(end=max(end, found[-1].end))
        elif start < end:
            best = int(scores[position].argmax())
            found.append(Word(start, end, labels[best], float(scores[position, best])))
    return found


def entities(told: Sequence[Word], text: str) -> list[Entity]:
    """Neighbouring words of one type joined; `B-` starts a new entity. Labels without `B-` or `I-` count as inside."""
    found: list[Entity] = []
    run: list[Word] = []
    kind = OUTSIDE

    def close() -> None:
        if run and kind != OUTSIDE:
            start, end = run[0].start, run[-1].end
            found.append(Entity(kind, sum(word.score for word in run) / len(run), start, end, text[start:end]))
        run.clear()

    for word in told:
        begins, tag = word.label.startswith("B-"), word.label[2:] if word.label[:2] in ("B-", "I-") else word.label
        if begins or tag != kind:
            close()
            kind = tag
        run.append(word)
    close()
    return found
