"""Texts to answers: what a text model says, whichever server asks it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding

from tapchanger_serving.contract import names
from tapchanger_serving.contract.artifact import Artifact, Pooling
from tapchanger_serving.engines import postprocess
from tapchanger_serving.engines.base import Engine, EngineSpec, open_engine
from tapchanger_serving.engines.phases import COMPUTE, POST, PRE, Watch
from tapchanger_serving.engines.text import TOKENIZER_FILE, Tokenizer, like_length

CHUNK = 8
"""Texts per call of the engine. Batches of like length waste little on padding; see docs/serving.md for the figures."""

Answers = dict[str, npt.NDArray[Any]]


class TextModel:
    """One artifact, loaded: tokenizer, engine and post-processing. It serves one call at a time.

    `chunk` is the most texts that the engine gets at once; it never exceeds the artifact's `max_batch_size`. Whoever
    wants to know what the time went to starts and stops `watch`.
    """

    def __init__(self, artifact: Artifact, tokenizer: Tokenizer, engine: Engine, chunk: int = CHUNK) -> None:
        self._artifact = artifact
        self._tokenizer = tokenizer
        self._engine = engine
        self.watch = Watch()
        self._chunk = max(1, min(chunk, artifact.max_batch_size))
        self._labels = np.array([label.encode() for label in artifact.labels], dtype=np.object_)

    @classmethod
    def open(cls, artifact: Artifact, folder: Path, chunk: int = CHUNK) -> TextModel:
        """Loads the artifact that lies in `folder`; errors are those of the tokenizer's file and of `open_engine`."""
        tokenizer = Tokenizer(folder / TOKENIZER_FILE, artifact.inputs, artifact.max_tokens)
        return cls(artifact, tokenizer, open_engine(EngineSpec.of(artifact, folder)), chunk)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the artifact."""
        return self._tokenizer

    def tokenize(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Encoding]:
        """One encoding per text, cut to the artifact's `max_tokens`; errors are the tokenizer's."""
        self.watch.enter(PRE)
        return self._tokenizer.tokenize(texts, pairs, offsets=self._artifact.task == "token-classification")

    def answer(self, texts: Sequence[str], encodings: Sequence[Encoding]) -> Answers:
        """Output tensors by name, one row per text, as the contract in :mod:`tapchanger_serving.contract.names` says.

        `label`, `score` and `entities` are `[batch, 1]`, `scores` is `[batch, labels]`, `embedding` is `[batch, dim]`.
        """
        match self._artifact.task:
            case "text-classification":
                return self._classify(encodings)
            case "feature-extraction":
                return {names.EMBEDDING: self._embed(encodings)}
            case "token-classification":
                return {names.ENTITIES: self._entities(texts, encodings)}
            case other:
                raise ValueError(
                    f"task: {other} has no text model; serve text-classification, "
                    "token-classification or feature-extraction"
                )

    def close(self) -> None:
        """Frees the engine; the model can't answer afterwards."""
        self._engine.close()

    def _classify(self, encodings: Sequence[Encoding]) -> Answers:
        activation, temperature = self._artifact.activation, self._artifact.temperature
        scores = np.empty((len(encodings), max(len(self._labels), 1)), dtype=np.float32)
        best = np.empty(len(encodings), dtype=np.intp)
        for rows in self._chunks(encodings):
            logits = self._run(encodings, rows)
            plain = postprocess.classify(logits, activation, len(self._labels))
            # The label is decided without the temperature, so that rounding can't make a tie that changes it.
            best[rows] = plain.argmax(axis=-1)
            scores[rows] = (
                plain
                if temperature is None
                else postprocess.classify(logits, activation, len(self._labels), temperature)
            )
        return {
            names.LABEL: self._labels[best][:, None],
            names.SCORE: np.take_along_axis(scores, best[:, None], axis=-1),
            names.SCORES: scores,
        }

    def _embed(self, encodings: Sequence[Encoding]) -> npt.NDArray[np.float32]:
        pooling = self._artifact.pooling or Pooling()
        embeddings = np.empty((len(encodings), self._artifact.dimensions), dtype=np.float32)
        for rows in self._chunks(encodings):
            lengths = np.array([max(len(encodings[row]), 1) for row in rows])
            hidden = self._run(encodings, rows)
            mask = (np.arange(hidden.shape[1]) < lengths[:, None]).astype(np.int64)
            embeddings[rows] = postprocess.pool(hidden, mask, pooling)
        return embeddings

    def _entities(self, texts: Sequence[str], encodings: Sequence[Encoding]) -> npt.NDArray[np.object_]:
        found = np.empty((len(encodings), 1), dtype=np.object_)
        for rows in self._chunks(encodings):
            logits = self._run(encodings, rows)
            for row, tokens in zip(rows, logits, strict=True):
                encoding = encodings[row]
                scores = postprocess.softmax(tokens[: len(encoding)])
                told = postprocess.words(
                    scores,
                    encoding.offsets,
                    encoding.word_ids,
                    encoding.special_tokens_mask,
                    texts[row],
                    self._artifact.labels,
                )
                spans = postprocess.entities(told, texts[row])
                found[row, 0] = json.dumps([span._asdict() for span in spans], ensure_ascii=False).encode()
        return found

    def _chunks(self, encodings: Sequence[Encoding]) -> list[npt.NDArray[np.intp]]:
        return list(like_length([len(encoding) for encoding in encodings], self._chunk))

    def _run(self, encodings: Sequence[Encoding], rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        """The engine's output for one chunk."""
        self.watch.enter(PRE)
        feeds = self._tokenizer.pad([encodings[row] for row in rows])
        self.watch.enter(COMPUTE)
        output = self._engine.run(feeds)
        self.watch.enter(POST)
        return output
