"""What is told of answers: labels, digests of entities and sketches of embeddings, never a text."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapchanger_serving.backends import answered
from tapchanger_serving.contract import mirror
from tapchanger_serving.contract.feedback import KNOWN_TEXTS
from tapchanger_serving.observer import labelling
from tapchanger_serving.observer.mirror import alike, read


def test_no_more_than_the_first_texts_are_told() -> None:
    labels = np.array([[f"label {row}".encode()] for row in range(40)], dtype=np.object_)
    told = json.loads(answered.words({"label": labels}))["labels"]
    assert told == [f"label {row}" for row in range(mirror.MOST_ROWS)]


def test_confidence_is_the_mean_of_the_scores_and_known_of_classification_only() -> None:
    assert answered.confidence({"score": np.array([[0.9], [0.61219]], dtype=np.float32)}) == 0.756
    assert answered.confidence({"embedding": np.ones((2, 3), dtype=np.float32)}) is None
    assert answered.confidence({"score": np.ones((0, 1), dtype=np.float32)}) is None


def test_labels_and_scores_of_the_first_texts_are_told_as_the_observer_reads_them() -> None:
    labels = np.array([[f"label {row}".encode()] for row in range(40)], dtype=np.object_)
    scores = np.linspace(0, 1, 40, dtype=np.float32).reshape(40, 1)
    told = answered.labels({"label": labels, "score": scores})
    assert told is not None
    rows = labelling.read(told)
    assert [label for label, _ in rows] == [f"label {row}" for row in range(KNOWN_TEXTS)]
    assert rows[3][1] == pytest.approx(float(scores[3, 0]), abs=1e-4)
    assert answered.labels({"embedding": np.ones((2, 3), dtype=np.float32)}) is None
    assert answered.labels({"label": labels[:0], "score": scores[:0]}) is None


def test_entities_are_told_by_a_digest_of_what_is_where() -> None:
    one = {"entity": "PER", "score": 0.9, "start": 3, "end": 8, "word": "Alice"}
    rows = [[one], [{**one, "score": 0.7}], [{**one, "end": 9}], []]
    entities = np.array([[json.dumps(row).encode()] for row in rows], dtype=np.object_)
    text = answered.words({"entities": entities})
    first, same, longer, none = json.loads(text)["digests"]
    assert first == same
    assert len({first, longer, none}) == 3
    assert "Alice" not in text


@given(st.integers(0, 2**32 - 1), st.sampled_from([8, 384, 768]), st.sampled_from([0.0, 0.05, 0.12, 0.25, 1.0]))
def test_sketches_tell_like_embeddings_from_others(seed: int, dimensions: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    one = rng.standard_normal((1, dimensions)).astype(np.float32)
    other = one + np.float32(noise) * rng.standard_normal((1, dimensions)).astype(np.float32)
    words = [read(answered.words({"embedding": value}))[0] for value in (one, 3 * other)]
    assert words[0]
    assert words[1]
    if noise <= 0.05:
        assert alike(words[0][0], words[1][0])
    if noise >= 1.0 and dimensions > 8:
        assert not alike(words[0][0], words[1][0])


def test_the_distance_of_sketches_is_that_of_the_embeddings_within_a_quarter() -> None:
    rng = np.random.default_rng(5)
    ratios = []
    for _ in range(400):
        pair = rng.standard_normal((2, 384)).astype(np.float32)
        pair /= np.linalg.norm(pair, axis=-1, keepdims=True)
        sketches = answered.sketch(pair) / 10_000
        ratios.append(np.sum((sketches[0] - sketches[1]) ** 2) / np.sum((pair[0] - pair[1]) ** 2))
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.05)
    assert np.std(ratios) == pytest.approx(0.25, abs=0.04)
