"""A text model answers each text alike, whatever else is in its batch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapchanger_serving.contract.artifact import Artifact, Pooling
from tapchanger_serving.engines.answers import TextModel
from tapchanger_serving.engines.text import Tokenizer
from tests.support.small_serving import FIELDS, SumEngine


def model(tokenizer_file: Path, engine: Any, chunk: int = 8, **fields: Any) -> TextModel:
    artifact = Artifact(**{**FIELDS, "files": (), **fields})
    return TextModel(artifact, Tokenizer(tokenizer_file, artifact.inputs, artifact.max_tokens), engine, chunk)


def test_answers_stand_in_the_order_of_the_texts(tokenizer_file: Path) -> None:
    engine = SumEngine()
    texts = ["a", "a b c d", "b", "a b", "c", "a b c"]
    texts_model = model(tokenizer_file, engine)
    together = texts_model.answer(texts, texts_model.tokenize(texts))
    alone = [texts_model.answer([text], texts_model.tokenize([text])) for text in texts]
    assert together["label"].tolist() == [answer["label"][0].tolist() for answer in alone]
    np.testing.assert_allclose(together["scores"], np.concatenate([answer["scores"] for answer in alone]))
    assert together["label"].shape == together["score"].shape == (6, 1)
    assert together["label"].tolist()[0] == [b"odd"]
    np.testing.assert_allclose(together["score"][:, 0], together["scores"].max(axis=1))


def test_batches_are_of_like_length_and_no_larger_than_the_engine_takes(tokenizer_file: Path) -> None:
    engine = SumEngine()
    texts_model = model(tokenizer_file, engine, chunk=8, max_batch_size=2)
    texts = ["a", "a b c d", "b", "a b c d"]
    texts_model.answer(texts, texts_model.tokenize(texts))
    assert engine.batches == [(2, 6), (2, 3)]


class UnsureEngine:
    """Logits that a large temperature rounds to a tie."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.tile(np.array([[1.0, 1.0000001]], dtype=np.float32), (len(feeds["input_ids"]), 1))

    def close(self) -> None:
        """Nothing to free."""


def test_a_temperature_changes_the_scores_and_no_label(tokenizer_file: Path) -> None:
    texts = ["a", "a b c d", "b"]
    plain, scaled = (model(tokenizer_file, SumEngine(), temperature=value) for value in (None, 2.0))
    before, after = (one.answer(texts, one.tokenize(texts)) for one in (plain, scaled))
    assert (before["label"] == after["label"]).all()
    # Of two labels, the logarithm of the scores' ratio is the difference of the logits.
    odds = [np.log(answer["scores"][:, 0] / answer["scores"][:, 1]) for answer in (before, after)]
    np.testing.assert_allclose(odds[1], odds[0] / 2, rtol=1e-4, atol=1e-5)
    unsure = model(tokenizer_file, UnsureEngine(), temperature=20.0)
    assert unsure.answer(["a"], unsure.tokenize(["a"]))["label"].tolist() == [[b"odd"]]


class HiddenEngine:
    """Token states `[id, 1]`, so that pooling can be followed by hand."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        ids = feeds["input_ids"].astype(np.float32)
        return np.stack([ids, np.ones_like(ids)], axis=-1)

    def close(self) -> None:
        """Nothing to free."""


def test_embeddings_do_not_depend_on_padding(tokenizer_file: Path) -> None:
    fields = {"task": "feature-extraction", "output": "hidden", "labels": (), "pooling": Pooling(mode="mean")}
    texts_model = model(tokenizer_file, HiddenEngine(), **fields)
    texts = ["a", "a b c"]
    embedding = texts_model.answer(texts, texts_model.tokenize(texts))["embedding"]
    np.testing.assert_allclose(embedding, [[(1 + 4 + 2) / 3, 1], [(1 + 4 + 5 + 6 + 2) / 5, 1]], rtol=1e-6)
    assert embedding.dtype == np.float32


class TagEngine:
    """Token logits that call every `b` a name."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.where((feeds["input_ids"] == 5)[:, :, None], [0.0, 9.0], [9.0, 0.0]).astype(np.float32)

    def close(self) -> None:
        """Nothing to free."""


def test_entities_are_json_with_places_in_characters(tokenizer_file: Path) -> None:
    texts_model = model(tokenizer_file, TagEngine(), task="token-classification", labels=("O", "B-NAME"))
    texts = ["a b é b", "c"]
    answers = texts_model.answer(texts, texts_model.tokenize(texts))["entities"]
    found = json.loads(answers[0, 0])
    assert [(entity["entity"], entity["start"], entity["end"], entity["word"]) for entity in found] == [
        ("NAME", 2, 3, "b"),
        ("NAME", 6, 7, "b"),
    ]
    assert answers[1, 0] == b"[]"


def test_a_task_without_a_text_model_is_named(tokenizer_file: Path) -> None:
    texts_model = model(tokenizer_file, SumEngine(), task="text-generation")
    with pytest.raises(ValueError, match="text-generation has no text model"):
        texts_model.answer(["a"], texts_model.tokenize(["a"]))
