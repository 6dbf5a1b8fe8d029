"""Answers of a model come back in the order of the texts, whatever the batches were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapchanger_serving.build.answers import Floats, answers
from tapchanger_serving.build.dataset import Rows
from tapchanger_serving.build.exported import Exported
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.contract.artifact import Pooling
from tapchanger_serving.engines.text import Tensors, Tokenizer

TEXTS = ("good", "bad rain late", "tea", "train late rain tea good")


def model(**fields: Any) -> Exported:
    base: dict[str, Any] = {
        "inputs": ("input_ids", "attention_mask"), "output": "out", "dimensions": 2,
        "max_tokens": 16, "max_batch_size": 2, "parameters": 1,
    }  # fmt: skip
    return Exported(**(base | fields))


@pytest.fixture
def encoded(tokenizer_file: Path) -> Encoded:
    return Encoded.of(Tokenizer(tokenizer_file, ("input_ids", "attention_mask"), 16), Rows(texts=TEXTS), 2)


def lengths(feeds: Tensors) -> Floats:
    """A model whose logits are the number of tokens of each text, against a constant."""
    count = feeds["attention_mask"].sum(axis=1).astype(np.float32)
    return np.stack([count - 6, np.zeros_like(count)], axis=1)


def states(feeds: Tensors) -> Floats:
    """A model whose token states are the token's id and garbage on the padding."""
    ids = feeds["input_ids"].astype(np.float32)
    garbage = np.where(feeds["attention_mask"] > 0, ids, 1e6).astype(np.float32)
    return np.stack([garbage, -garbage], axis=2)


def test_scores_are_in_the_order_of_the_texts(encoded: Encoded) -> None:
    scores = answers(lengths, encoded, model(task="text-classification", labels=("long", "short")))
    assert scores.argmax(axis=1).tolist() == [1, 1, 1, 0]
    assert scores.sum(axis=1) == pytest.approx(np.ones(4))


def test_embeddings_ignore_the_padding(encoded: Encoded) -> None:
    found = answers(states, encoded, model(task="feature-extraction", pooling=Pooling(mode="mean")))
    ids = [np.mean(encoding.ids) for encoding in encoded.encodings]
    assert found[:, 0] == pytest.approx(ids)
    assert found[:, 1] == pytest.approx([-value for value in ids])


def test_token_scores_leave_out_padding_and_the_tokens_of_the_tokenizer(encoded: Encoded) -> None:
    found = answers(states, encoded, model(task="token-classification", labels=("a", "b")))
    words = sum(len(text.split()) for text in TEXTS)
    assert found.shape == (words, 2)


def test_an_answer_that_is_no_number_is_an_error(encoded: Encoded) -> None:
    def broken(feeds: Tensors) -> Floats:
        return np.full((len(feeds["input_ids"]), 2), np.nan, dtype=np.float32)

    with pytest.raises(ValueError, match="NaN"):
        answers(broken, encoded, model(task="text-classification", labels=("a", "b")))
