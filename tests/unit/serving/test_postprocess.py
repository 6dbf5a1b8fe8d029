"""Engine outputs become answers as their formulas say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import special

from tapchanger_serving.contract.artifact import Pooling
from tapchanger_serving.engines import postprocess

logits_arrays = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6),
    elements=st.floats(-200, 200, width=32),
)


@settings(deadline=None)
@given(logits_arrays)
def test_softmax_is_exact_even_for_large_logits(logits: np.ndarray) -> None:
    expected = special.softmax(logits.astype(np.float64), axis=-1)
    np.testing.assert_allclose(postprocess.softmax(logits), expected, atol=1e-6)


@settings(deadline=None)
@given(logits_arrays)
def test_sigmoid_is_exact_even_for_large_logits(logits: np.ndarray) -> None:
    np.testing.assert_allclose(postprocess.sigmoid(logits), special.expit(logits.astype(np.float64)), atol=1e-6)


def test_one_logit_for_two_labels_is_the_chance_of_the_second() -> None:
    scores = postprocess.classify(np.array([[0.0], [20.0]], dtype=np.float32), "sigmoid", labels=2)
    np.testing.assert_allclose(scores, [[0.5, 0.5], [0.0, 1.0]], atol=1e-6)


def test_multi_label_scores_do_not_add_up_to_one() -> None:
    scores = postprocess.classify(np.array([[20.0, 20.0]], dtype=np.float32), "sigmoid", labels=2)
    np.testing.assert_allclose(scores, [[1.0, 1.0]], atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("mean", [2.0, 3.0]), ("cls", [1.0, 2.0]), ("max", [3.0, 4.0])],
)
def test_pooling_leaves_padding_out(mode: str, expected: list[float]) -> None:
    hidden = np.array([[[1, 2], [3, 4], [99, 99]]], dtype=np.float32)
    pooled = postprocess.pool(hidden, np.array([[1, 1, 0]]), Pooling(mode=mode))  # type: ignore[arg-type]
    np.testing.assert_allclose(pooled, [expected])


def test_normalized_embeddings_have_length_one_and_zero_stays_zero() -> None:
    hidden = np.array([[[3, 4]], [[0, 0]]], dtype=np.float32)
    pooled = postprocess.pool(hidden, np.array([[1], [1]]), Pooling(normalize=True))
    np.testing.assert_allclose(pooled, [[0.6, 0.8], [0.0, 0.0]])


LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC")


def spans(text: str, *tokens: tuple[int, int, str], numbers: Sequence[int] | None = None) -> list[tuple[str, str]]:
    """Entities (kind, word) when each token `(start, end, label)` is labelled with certainty; `numbers` are the words'."""
    scores = np.zeros((len(tokens) + 2, len(LABELS)), dtype=np.float32)
    for row, (_, _, label) in enumerate(tokens, start=1):
        scores[row, LABELS.index(label)] = 1
    scores[[0, -1], LABELS.index("B-LOC")] = 1
    offsets = [(0, 0), *((start, end) for start, end, _ in tokens), (0, 0)]
    special = [1, *(0 for _ in tokens), 1]
    known = [None, *(range(len(tokens)) if numbers is None else numbers), None]
    told = postprocess.words(scores, offsets, known, special, text, LABELS)
    return [(found.entity, found.word) for found in postprocess.entities(told, text)]


def test_neighbours_of_one_kind_are_one_entity() -> None:
    assert spans("Ada Lovelace", (0, 3, "B-PER"), (4, 12, "I-PER")) == [("PER", "Ada Lovelace")]


def test_a_beginning_starts_another_entity_of_the_same_kind() -> None:
    assert spans("Ada Bob", (0, 3, "B-PER"), (4, 7, "B-PER")) == [("PER", "Ada"), ("PER", "Bob")]


def test_an_entity_ends_where_another_kind_or_none_begins() -> None:
    text = "Ada in Rome x"
    found = spans(text, (0, 3, "I-PER"), (4, 6, "O"), (7, 11, "I-LOC"), (12, 13, "MISC"))
    assert found == [("PER", "Ada"), ("LOC", "Rome"), ("MISC", "x")]


def test_special_tokens_are_no_entities() -> None:
    assert spans("nothing here", (0, 7, "O"), (8, 12, "O")) == []


def test_a_word_has_the_label_of_its_first_token() -> None:
    text = "Lovelace sat"
    tokens = (0, 4, "B-PER"), (4, 8, "O"), (9, 12, "O")
    assert spans(text, *tokens, numbers=[0, 0, 1]) == [("PER", "Lovelace")]
    assert spans(text, (0, 4, "O"), (4, 8, "B-PER"), (9, 12, "O"), numbers=[0, 0, 1]) == []


def test_a_tokenizer_that_takes_the_whole_text_for_a_word_is_not_believed() -> None:
    text = "Ada in Rome"
    tokens = (0, 3, "B-PER"), (3, 6, "O"), (6, 9, "B-LOC"), (9, 11, "O")
    assert spans(text, *tokens, numbers=[0, 0, 0, 0]) == [("PER", "Ada"), ("LOC", "Rome")]


@given(st.data())
def test_entities_are_whole_words_in_order(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=8))
    text = " ".join("x" * length for length in lengths)
    tokens: list[tuple[int, int, str]] = []
    numbers: list[int] = []
    start = 0
    for number, length in enumerate(lengths):
        cut = data.draw(st.integers(0, length - 1))
        for low, high in ((start, start + cut), (start + cut, start + length)):
            if low < high:
                tokens.append((low, high, data.draw(st.sampled_from(LABELS))))
                numbers.append(number)
        start += length + 1
    found = spans(text, *tokens, numbers=numbers)
    assert all(set(word) <= {"x", " "} for _, word in found)
    assert all(piece in {"x" * length for length in lengths} for _, word in found for piece in word.split())


def test_the_score_of_an_entity_is_the_mean_of_its_words() -> None:
    words = [postprocess.Word(0, 1, "X", 0.8), postprocess.Word(2, 3, "X", 0.6)]
    (entity,) = postprocess.entities(words, "a b")
    assert entity.score == pytest.approx(0.7, abs=1e-6)
    assert (entity.start, entity.end) == (0, 3)
