"""What a student learns from: never what judges it, each text once, and some held out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tapchanger_serving.build.dataset import Rows
from tapchanger_serving.build.distill import student
from tapchanger_serving.build.distill.texts import LEAST, read_corpus, select, units
from tapchanger_serving.build.failures import StepError
from tapchanger_serving.build.places import Places
from tapchanger_serving.contract.distill import Distill
from tapchanger_serving.contract.gates import DatasetSource, EvaluationGate, Gates, TextSource
from tapchanger_serving.contract.messages import BuildRequest, Hardware
from tests.support.built import DISTILLATION

TEXTS = [(f"{index} trains are late on platform {index * 7}",) for index in range(200)]


def test_evaluation_texts_and_repeated_ones_are_left_out_and_counted() -> None:
    near = "the quick brown fox jumps over the lazy dog and runs away through the dark forest at night"
    found = [*TEXTS, ("Hello, World!",), (near + "s",), TEXTS[3], ("0 TRAINS are late, on platform 0",)]
    corpus = select(found, judged=[(near,)], evaluation=[("hello world",)], seed=0)
    assert (corpus.read, corpus.in_evaluation, corpus.duplicates) == (204, 2, 2)
    assert sorted(corpus.texts) == sorted(TEXTS)


def test_held_out_texts_are_a_seeded_tenth_that_is_not_trained_on() -> None:
    corpus, again, other = (select(TEXTS, [], [], seed) for seed in (5, 5, 6))
    assert corpus == again
    assert corpus.held_out != other.held_out
    assert len(corpus.held_out) == 20
    assert set(corpus.training) & set(corpus.held_out) == set()
    assert set(corpus.training) | set(corpus.held_out) == set(range(200))


def test_pairs_stay_together_but_embeddings_take_each_text_alone() -> None:
    rows = Rows(texts=("a", "b"), pairs=("c", "d"))
    assert units(rows, apart=False) == [("a", "c"), ("b", "d")]
    assert units(rows, apart=True) == [("a",), ("b",), ("c",), ("d",)]
    assert select([("a", "b"), ("a", "c"), ("a b", "c")], [], [], 0).rows.pairs == ("b", "c", "c")


def request(places: Places, texts: list[str], evaluation: list[str]) -> tuple[BuildRequest, Distill]:
    lines = "\n".join(json.dumps({"body": text}) for text in texts)
    (places.work / "distill.jsonl").write_text(lines)
    (places.work / "dataset.jsonl").write_text(
        "\n".join(json.dumps({"text": text, "label": "x"}) for text in evaluation)
    )
    wanted = Distill(dataset=TextSource(uri="file:///texts.jsonl", text="body"))
    gates = Gates(evaluation=EvaluationGate(dataset=DatasetSource(uri="file:///test.jsonl")))
    asked = BuildRequest(
        name="eb-1", uri="file:///m", digest="sha256:0", task="text-classification", gates=gates, distill=wanted,
        hardware=Hardware(arch="amd64"),
    )  # fmt: skip
    return asked, wanted


def test_every_row_of_the_evaluation_data_is_left_out_not_only_those_that_are_judged(places: Places) -> None:
    texts = [text for (text,) in TEXTS]
    asked, wanted = request(places, texts, texts[:30])
    corpus = read_corpus(asked, wanted, places, Rows(texts=()))
    assert corpus.in_evaluation == 30
    assert not {text for (text,) in corpus.texts} & set(texts[:30])


def test_too_few_texts_are_refused_with_where_they_went(places: Places) -> None:
    texts = [text for (text,) in TEXTS]
    asked, wanted = request(places, texts[: 29 + LEAST], texts[:30])
    with pytest.raises(StepError, match="19 of 49 texts are left") as refused:
        read_corpus(asked, wanted, places, Rows(texts=()))
    assert refused.value.failure.reason == "DatasetInvalid"
    assert refused.value.failure.field == "spec.engine.distill.dataset"
    assert "30 are evaluation data too" in refused.value.failure.message


def test_a_student_is_found_whole_or_not_at_all(places: Places, tmp_path: Path) -> None:
    asked, _ = request(places, ["a"], ["b"])
    part = student.begin(places)
    (part / "model.onnx").write_bytes(b"graph")
    with pytest.raises(FileNotFoundError):
        student.find(asked, places)
    made = student.finish(places, DISTILLATION)
    assert student.find(asked, places) == made
    assert (made.folder / "model.onnx").read_bytes() == b"graph"
    assert made.layers == 3
    assert student.find(asked.model_copy(update={"distill": None}), places) is None
    # A step that begins again forgets what was there, whole or not.
    student.begin(places)
    with pytest.raises(FileNotFoundError):
        student.find(asked, places)
