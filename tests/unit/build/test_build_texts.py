"""The texts that engines are compared on: data files, probes, and their lengths."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapchanger_serving.build.dataset import Rows, evenly, read_dataset, suffix_of
from tapchanger_serving.build.failures import StepError
from tapchanger_serving.build.textset import COMPARED, Encoded, compared, lengthened, load_texts, probe_sentences
from tapchanger_serving.contract.gates import DatasetSource, EvaluationGate, Gates
from tapchanger_serving.contract.messages import BuildRequest, Hardware, Task
from tapchanger_serving.engines.text import Tokenizer

SOURCE = DatasetSource(uri="pvc://d/x.csv", text="body", label="kind", slices=("lang",))


def request(task: Task, dataset: DatasetSource | None) -> BuildRequest:
    evaluation = EvaluationGate(dataset=dataset) if dataset else None
    return BuildRequest(
        name="eb-1",
        uri="pvc://m/a",
        digest="sha256:0",
        task=task,
        gates=Gates(evaluation=evaluation),
        hardware=Hardware(arch="amd64"),
    )


def test_a_csv_is_read_with_quotes_newlines_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('\ufeffbody,kind,lang,extra\n"one, ""two""\nthree",1,en,\nvier,0,de,x\n', encoding="utf-8")
    rows = read_dataset(path, SOURCE)
    assert rows.texts == ('one, "two"\nthree', "vier")
    assert rows.labels == ("1", "0")
    assert rows.slices == {"lang": ("en", "de")}
    assert rows.pairs is None


def test_json_lines_are_read_and_numbers_become_text(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    records = [
        {"body": "a", "other": "b", "kind": 1, "lang": "en"},
        {"body": "c", "other": "d", "kind": 0, "lang": "de"},
    ]
    path.write_text("\n\n".join(json.dumps(record) for record in records))
    rows = read_dataset(path, SOURCE.model_copy(update={"text_pair": "other"}))
    assert rows.labels == ("1", "0")
    assert rows.pairs == ("b", "d")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("x.csv", "body,lang\na,en\n", ("row 1", "'kind'", "body, lang")),
        ("x.csv", "body,kind,lang\n", ("no rows",)),
        ("x.csv", "body,kind,lang\na,1\n", ("row 1", "'lang'")),
        ("x.jsonl", "{", ("pvc://d/x.csv",)),
        ("x.jsonl", "[1]", ("line 1", "list")),
    ],
)
def test_bad_data_is_refused_with_its_row_and_column(
    tmp_path: Path, name: str, text: str, words: tuple[str, ...]
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(StepError) as caught:
        read_dataset(tmp_path / name, SOURCE)
    assert caught.value.failure.reason == "DatasetInvalid"
    assert all(word in caught.value.failure.message for word in words)


def test_bytes_that_are_no_utf8_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"body,kind,lang\n\xff\xfe,1,en\n")
    with pytest.raises(StepError, match="DatasetInvalid"):
        read_dataset(tmp_path / "x.csv", SOURCE)


@given(st.integers(0, 5000), st.integers(1, 500))
def test_thinning_keeps_the_order_and_the_spread(count: int, limit: int) -> None:
    kept = evenly(count, limit)
    assert len(kept) == min(count, limit)
    assert kept == sorted(set(kept))
    assert all(0 <= index < count for index in kept)
    gaps = np.diff([*kept, count]) if kept else np.array([1])
    assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize(("uri", "suffix"), [
    ("pvc://d/a/x.csv", ".csv"),
    ("https://h/x.jsonl?download=1@sha256:" + "a" * 64, ".jsonl"),
    ("file:///d/X.CSV", ".csv"),
])  # fmt: skip
def test_the_kind_of_data_is_known_by_its_name(uri: str, suffix: str) -> None:
    assert suffix_of(uri) == suffix


def test_parquet_is_refused_by_name() -> None:
    with pytest.raises(StepError, match=r"\.parquet"):
        suffix_of("pvc://d/x.parquet")


def test_the_probes_are_many_different_and_varied() -> None:
    sentences = probe_sentences()
    assert len(sentences) >= 200
    assert len(set(sentences)) == len(sentences)
    letters = "".join(sentences)
    assert all(sign in letters for sign in "ßéżжα会と요عकไ😂7?!{")
    assert min(map(len, sentences)) <= 2
    assert max(map(len, sentences)) > 200


@given(st.integers(8, 400))
def test_lengthened_texts_climb_to_the_token_limit(max_tokens: int) -> None:
    sentences = probe_sentences()
    texts = lengthened(sentences, lambda text: len(text.split()), max_tokens)
    sizes = [len(text.split()) for text in texts]
    longest = max(len(text.split()) for text in sentences)
    assert sizes[-1] >= max_tokens
    assert all(
        size <= goal + longest for size, goal in zip(sizes, np.linspace(max_tokens / 48, max_tokens, 48), strict=True)
    )


def test_probes_stand_in_where_there_is_no_data(tokenizer_file: Path) -> None:
    tokenizer = Tokenizer(tokenizer_file, ("input_ids",), 64)
    rows = load_texts(request("feature-extraction", None), None, tokenizer, 64)
    assert len(rows) > len(probe_sentences())
    assert len(compared(len(rows))) == len(rows)
    lengths = Encoded.of(tokenizer, rows, 8).lengths()
    assert lengths.max() == 64
    assert lengths.min() <= 4


@pytest.mark.parametrize(("task", "count"), [("text-classification", 1500), ("feature-extraction", COMPARED)])
def test_only_classifiers_evaluate_more_rows_than_they_compare(
    tmp_path: Path, tokenizer_file: Path, task: Task, count: int
) -> None:
    (tmp_path / "x.csv").write_text("body,kind,lang\n" + "good tea,1,en\n" * 1500)
    rows = load_texts(request(task, SOURCE), tmp_path / "x.csv", Tokenizer(tokenizer_file, ("input_ids",), 64), 64)
    assert len(rows) == count
    assert len(compared(len(rows))) == COMPARED


def test_batches_hold_every_row_once_with_little_padding(tokenizer_file: Path) -> None:
    tokenizer = Tokenizer(tokenizer_file, ("input_ids", "attention_mask"), 64)
    texts = tuple("tea " * (1 + index * 7 % 23) for index in range(50))
    encoded = Encoded.of(tokenizer, Rows(texts=texts), 8)
    seen = []
    for numbers, feeds in encoded.batches():
        assert len(numbers) <= 8
        assert (feeds["attention_mask"].sum(axis=1) == encoded.lengths()[numbers]).all()
        seen += numbers.tolist()
    assert sorted(seen) == list(range(50))
