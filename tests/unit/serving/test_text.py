"""Texts become tensors of the engine's inputs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapchanger_serving.engines.text import Tokenizer, like_length

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def test_a_batch_is_padded_to_its_longest_text(tokenizer_file: Path) -> None:
    tensors = Tokenizer(tokenizer_file, INPUTS, max_tokens=16).encode(["a", "a b c"])
    assert tensors["input_ids"].tolist() == [[1, 4, 2, 0, 0], [1, 4, 5, 6, 2]]
    assert tensors["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.int64)}


def test_long_texts_are_cut_and_keep_their_special_tokens(tokenizer_file: Path) -> None:
    tensors = Tokenizer(tokenizer_file, INPUTS, max_tokens=4).encode(["a b c d e f"])
    assert tensors["input_ids"].tolist() == [[1, 4, 5, 2]]


def test_the_second_text_of_a_pair_has_its_own_type(tokenizer_file: Path) -> None:
    tensors = Tokenizer(tokenizer_file, INPUTS, max_tokens=16).encode(["a"], ["b c"])
    assert tensors["input_ids"].tolist() == [[1, 4, 2, 5, 6, 2]]
    assert tensors["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 1]]


def test_only_the_engines_inputs_are_made(tokenizer_file: Path) -> None:
    assert set(Tokenizer(tokenizer_file, ("input_ids",), max_tokens=16).encode(["a"])) == {"input_ids"}


def test_a_text_without_any_token_attends_to_one_padding_token(tokenizer_file: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps({**json.loads(tokenizer_file.read_text()), "post_processor": None}))
    tensors = Tokenizer(bare, INPUTS, max_tokens=16).encode([""])
    assert tensors["input_ids"].tolist() == [[0]]
    assert tensors["attention_mask"].tolist() == [[1]]


def test_an_input_that_no_tokenizer_gives_is_refused(tokenizer_file: Path) -> None:
    with pytest.raises(ValueError, match="pixel_values"):
        Tokenizer(tokenizer_file, ("input_ids", "pixel_values"), max_tokens=16)


@settings(deadline=None)
@given(st.lists(st.integers(0, 500)), st.integers(1, 9))
def test_chunks_hold_every_text_once_and_longest_first(lengths: list[int], size: int) -> None:
    chunks = list(like_length(lengths, size))
    order = [int(index) for chunk in chunks for index in chunk]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[index] for index in order] == sorted(lengths, reverse=True)
    assert all(1 <= len(chunk) <= size for chunk in chunks)
