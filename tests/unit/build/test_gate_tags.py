"""Entities of tagged words: which spans tags make, and how tokens become words' tags."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tapchanger_serving.build.gates.resampling import figure
from tapchanger_serving.build.gates.results import UnanswerableError
from tapchanger_serving.build.gates.tagged import entities, tagged
from tapchanger_serving.engines.text import Tokenizer
from tests.support.gate_samples import model

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
TAGGER = model(task="token-classification", labels=TAGS, dimensions=5)


@pytest.mark.parametrize(("tags", "spans"), [
    ("O B-PER I-PER O B-LOC", {("PER", 1, 2), ("LOC", 4, 4)}),
    ("B-PER B-PER", {("PER", 0, 0), ("PER", 1, 1)}),
    ("I-PER I-PER I-LOC", {("PER", 0, 1), ("LOC", 2, 2)}),
    ("B-PER I-LOC", {("PER", 0, 0), ("LOC", 1, 1)}),
    ("S-PER B-LOC E-LOC I-LOC", {("PER", 0, 0), ("LOC", 1, 2), ("LOC", 3, 3)}),
    ("PER PER O LOC", {("PER", 0, 1), ("LOC", 3, 3)}),
    ("B-north-east I-north-east O", {("north-east", 0, 1)}),
    ("O O", set()),
])  # fmt: skip
def test_tags_make_the_spans_that_conlleval_counts(tags: str, spans: set[tuple[str, int, int]]) -> None:
    assert entities(tags.split()) == spans


def scored(*ids: int) -> np.ndarray:
    return np.eye(5, dtype=np.float32)[list(ids)]


def test_an_entity_counts_if_its_type_and_both_ends_are_right(tokenizer_file: Path) -> None:
    tokenizer = Tokenizer(tokenizer_file, ("input_ids",), 64)
    texts = ("good tea bad rain", "late train")
    # The first text: PER over two words and LOC found; LOC is true, PER is one word too long.
    found = scored(1, 2, 0, 3, 0, 0)
    sample = tagged(texts, ("B-PER O O B-LOC", "O|B-LOC"), found, TAGGER, tokenizer)
    assert sample.wrong().tolist() == [True, True]
    assert figure(sample.statistic("entity_f1"), 2) == pytest.approx(2 * 1 / (2 + 3))


def test_words_have_the_tag_of_their_first_token_and_cut_ones_have_none(tokenizer_file: Path) -> None:
    tokenizer = Tokenizer(tokenizer_file, ("input_ids",), 5)
    # The tokenizer splits at the hyphen, and cuts after three tokens: good - tea.
    sample = tagged(("good-tea train",), ("B-LOC B-LOC",), scored(3, 0, 0), TAGGER, tokenizer)
    assert (sample.hits.tolist(), sample.found.tolist(), sample.true.tolist()) == ([1], [1], [2])


def test_words_and_tags_must_be_as_many(tokenizer_file: Path) -> None:
    tokenizer = Tokenizer(tokenizer_file, ("input_ids",), 64)
    with pytest.raises(UnanswerableError, match="row 1 has 2 words and 3 tags"):
        tagged(("good tea",), ("O O O",), scored(0, 0), TAGGER, tokenizer)
