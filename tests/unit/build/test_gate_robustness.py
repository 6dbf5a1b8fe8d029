"""Robustness: texts are perturbed in the same way each time, and answers that flip are counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapchanger_serving.build.answers import Floats
from tapchanger_serving.build.dataset import Rows
from tapchanger_serving.build.gates.perturb import perturbed, transposed, without
from tapchanger_serving.build.gates.results import sentence
from tapchanger_serving.build.gates.robustness import Subject, judge, robustness, unfit
from tapchanger_serving.contract.gates import PERTURBATIONS, PerturbationKind, RobustnessGate
from tapchanger_serving.engines.text import Tensors, Tokenizer
from tests.support.gate_samples import model

TEXT = "The train is late again, and nobody knows why it did not leave at nine."
PLAIN: tuple[PerturbationKind, ...] = tuple(kind for kind in PERTURBATIONS if kind != "words")
GOOD, BAD = 4, 5


def test_every_kind_that_a_spec_may_name_is_there() -> None:
    assert set(PERTURBATIONS) == set(get_args(PerturbationKind))


@pytest.mark.parametrize("kind", PLAIN)
def test_a_perturbation_changes_a_text_and_is_the_same_each_time(kind: PerturbationKind) -> None:
    first = [perturbed(kind, TEXT, number) for number in range(30)]
    assert first == [perturbed(kind, TEXT, number) for number in range(30)]
    assert sum(text != TEXT for text in first) >= 25


@pytest.mark.parametrize("kind", PLAIN)
@given(text=st.text(max_size=80))
def test_any_text_can_be_perturbed(kind: PerturbationKind, text: str) -> None:
    assert len(perturbed(kind, text, 0)) <= 3 * len(text) + 3


def test_casing_and_whitespace_leave_the_letters() -> None:
    for number in range(20):
        assert perturbed("casing", TEXT, number).casefold() == TEXT.casefold()
        assert perturbed("whitespace", TEXT, number).split() == TEXT.split()
    assert perturbed("truncation", "a b c d", 0) == "a b c"


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("I do not know", "I don't know"),
        ("It isn't here", "It is not here"),
        ("Cannot go", "Can't go"),
        ("give me 2 or three", "give me two or 3"),
        ("one-off, phones, 20 and don'ts", "1-off, phones, 20 and don'ts"),
    ],
)
def test_paraphrases_say_the_same(text: str, other: str) -> None:
    found = perturbed("paraphrase", text, 0)
    assert found.endswith(other)
    assert len(found) - len(other) <= len("Basically, ")


def test_words_are_dropped_and_swapped() -> None:
    assert without("a b c", 1) == "a c"
    assert [transposed("a b c", index) for index in range(3)] == ["b a c", "a c b", "a c b"]
    assert transposed("a", 0) == "a"


def subject(tokenizer_file: Path, count: Callable[[Tensors], np.ndarray]) -> Subject:
    """A classifier whose logit for label 1 is the count."""

    def forward(feeds: Tensors) -> Floats:
        score = count(feeds).astype(np.float32)
        return np.stack([-score, score], axis=1)

    return Subject(forward, model(), Tokenizer(tokenizer_file, ("input_ids",), 64))


def balance(feeds: Tensors) -> np.ndarray:
    ids = feeds["input_ids"]
    return (ids == GOOD).sum(axis=1) - (ids == BAD).sum(axis=1) - 0.5


def deaf(feeds: Tensors) -> np.ndarray:
    return np.ones(len(feeds["input_ids"]))


def test_the_word_with_the_largest_effect_is_found_and_its_loss_flips_the_answer(tokenizer_file: Path) -> None:
    rows = Rows(texts=("tea rain good train late", "good tea good rain train", "bad tea"), numbers=(3, 6, 9))
    engine, original = subject(tokenizer_file, balance), subject(tokenizer_file, deaf)
    [flips] = robustness(RobustnessGate(kinds=("words",), texts=10), rows, engine, original)
    assert (flips.texts, flips.engine, flips.reference) == (3, pytest.approx(1 / 3, abs=1e-6), 0.0)
    assert flips.examples == (3,)


def test_flips_above_the_bound_fail_and_the_original_s_are_told(tokenizer_file: Path) -> None:
    # This tokenizer knows words in lower case only, so that another case hides them.
    rows = Rows(texts=("good tea",) * 20)
    engine, original = subject(tokenizer_file, balance), subject(tokenizer_file, deaf)
    gate = RobustnessGate(max_flips=0.1, kinds=("casing", "whitespace"), texts=20)
    casing, whitespace = judge(gate, robustness(gate, rows, engine, original))
    assert not casing.passed
    assert whitespace.passed
    assert sentence([casing]).startswith("robustness casing is 0.")
    assert "PyTorch flips 0.0000" in (casing.detail or "")
    assert casing.interval is not None


def test_without_a_bound_flips_are_only_reported(tokenizer_file: Path) -> None:
    rows = Rows(texts=("good tea",) * 10)
    engine = subject(tokenizer_file, balance)
    found = robustness(RobustnessGate(texts=10), rows, engine, engine)
    assert [flips.kind for flips in found] == list(PERTURBATIONS)
    assert all(flips.engine == flips.reference for flips in found)
    assert judge(RobustnessGate(), found) == []


def test_a_task_without_labels_of_texts_can_not_be_judged() -> None:
    [result] = unfit(RobustnessGate(max_flips=0.1), model(task="feature-extraction"))
    assert not result.passed
    assert "feature-extraction; leave robustness out" in (result.detail or "")
    assert unfit(RobustnessGate(), model()) == []
