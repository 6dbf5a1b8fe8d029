"""The evaluation data's own faults: duplicates, leaks, flipped labels, personal data, rare labels."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tapchanger_serving.build.dataset import Rows
from tapchanger_serving.build.gates.duplicates import Seen, fingerprint
from tapchanger_serving.build.gates.personal import iban, kinds_in, luhn
from tapchanger_serving.build.gates.quality import judge, quality
from tapchanger_serving.build.gates.results import sentence
from tapchanger_serving.build.textset import probe_sentences
from tapchanger_serving.contract.evidence import DataQuality
from tapchanger_serving.contract.gates import DataGate
from tests.support.gate_samples import model

TEXTS = probe_sentences()


def examined(
    texts: tuple[str, ...], calibration: tuple[str, ...] | None = None, labels: tuple[str, ...] | None = None
) -> DataQuality:
    scores = np.tile(np.array([[0.9, 0.1]], dtype=np.float32), (len(texts), 1))
    other = None if calibration is None else Rows(texts=calibration)
    return quality(Rows(texts=texts, labels=labels), other, model(), scores)


def test_texts_that_differ_in_case_and_punctuation_are_the_same() -> None:
    found = examined(("The train is late!", "Rain again.", "the train  is LATE", "THE TRAIN, is late."))
    assert (found.duplicates.count, found.duplicates.examples) == (2, (3, 4))
    assert found.near_duplicates.count == 0


def test_a_text_with_a_word_changed_is_nearly_the_same_and_a_new_one_is_not() -> None:
    long = "The ferry to the island was cancelled in the morning because of the storm, and we had to wait until noon."
    found = examined(
        (long, long.replace("morning", "evening"), long[:40], "Something else entirely was said that day.")
    )
    assert (found.near_duplicates.count, found.near_duplicates.examples) == (1, (2,))
    assert found.duplicates.count == 0


def test_texts_written_in_many_languages_are_not_taken_for_each_other() -> None:
    found = examined(TEXTS)
    assert found.duplicates.count + found.near_duplicates.count <= 2


def test_a_pair_is_the_same_only_with_its_second_text() -> None:
    rows = Rows(texts=("is it raining", "is it raining"), pairs=("it is pouring down", "the train is late"))
    assert quality(rows, None, model(), np.zeros((2, 2), dtype=np.float32)).duplicates.count == 0


def test_evaluation_rows_that_leaked_into_calibration_fail_and_are_numbered() -> None:
    evaluation, others = TEXTS[:100], TEXTS[100:]
    leaked = examined(evaluation, (*others, *(text.upper() for text in evaluation[10:15])))
    [result] = judge(DataGate(max_leakage=0.01), leaked)
    assert not result.passed
    assert result.value == pytest.approx(0.05)
    assert "data leakage is 0.05" in sentence([result])
    assert result.examples == (11, 12, 13, 14, 15)
    [clean] = judge(DataGate(max_leakage=0.01), examined(evaluation, others))
    assert clean.passed


def test_leakage_without_calibration_data_can_not_be_judged() -> None:
    [result] = judge(DataGate(max_leakage=0.01), examined(TEXTS))
    assert not result.passed
    assert "calibrationData" in (result.detail or "")


def flipped(share: float, seed: int = 0) -> tuple[DataQuality, set[int]]:
    """Labels of a good but not perfect model's scores, of which a share is then flipped; and which rows."""
    random = np.random.default_rng(seed)
    positive = random.beta(0.2, 0.2, 2000)
    truth = random.random(2000) < positive
    wrong = random.random(2000) < share
    labels = tuple("angry" if label else "calm" for label in truth ^ wrong)
    scores = np.stack([1 - positive, positive], axis=1).astype(np.float32)
    rows = Rows(texts=tuple(map(str, range(2000))), labels=labels)
    return quality(rows, None, model(), scores), set(np.flatnonzero(wrong) + 1)


def test_five_percent_of_flipped_labels_are_found() -> None:
    clean, _ = flipped(0.0)
    planted, where = flipped(0.05)
    assert clean.label_noise is not None
    assert planted.label_noise is not None
    gate = DataGate(max_label_noise=0.045)
    assert judge(gate, clean)[0].passed
    [result] = judge(gate, planted)
    assert not result.passed
    assert sentence([result]).startswith("data label noise is 0.0")
    assert planted.label_noise.count - clean.label_noise.count > 0.7 * len(where)


def test_the_rarest_label_is_named() -> None:
    found = examined(TEXTS[:10], labels=("calm",) * 9 + ("angry",))
    [result] = judge(DataGate(min_class_share=0.2), found)
    assert (result.value, result.passed) == (0.1, False)
    assert result.detail == "rarest label angry, 1 rows"


@pytest.mark.parametrize(("text", "kinds"), [
    ("write to jane.doe+news@mail.example.co.uk today", {"email"}),
    ("call +49 (0)30 1234-5678 or not", {"phone"}),
    ("(555) 123-4567", {"phone"}),
    ("my card is 4111 1111 1111 1111", {"card"}),
    ("my card is 4111 1111 1111 1112", set()),
    ("order 0000000000000000", set()),
    ("pay to DE89 3704 0044 0532 0130 00 please", {"iban"}),
    ("pay to GB82 WEST 1234 5698 7654 33 please", set()),
    ("from 192.168.0.17 at noon", {"ip"}),
    ("from 2001:db8::ff00:42:8329.", {"ip"}),
    ("version 1.2.3.4.5, at 12:30:45, on 2024-05-06", set()),
    ("300.1.2.3 is none", set()),
    ("std::vector and a::b", set()),
    ("a@b, @someone, 1 234 567", set()),
])  # fmt: skip
def test_personal_data_is_told_by_kind(text: str, kinds: set[str]) -> None:
    assert kinds_in(text) == kinds


def test_personal_data_is_counted_and_numbered_and_never_repeated() -> None:
    secret = "jane.doe@example.org"
    found = examined(("nothing here", f"mail {secret}", f"mail {secret} or 10.0.0.1"))
    assert [(kind.kind, kind.count, kind.examples) for kind in found.personal_data] == [
        ("email", 2, (2, 3)),
        ("ip", 1, (3,)),
    ]
    results = judge(DataGate(max_personal_data=0.5), found)
    assert not results[0].passed
    assert "jane" not in found.dumps() + sentence(results)


def test_check_digits() -> None:
    assert luhn("79927398713")
    assert not luhn("79927398714")
    assert iban("GB82 WEST 1234 5698 7654 32")


@pytest.mark.parametrize("text", ["a" * 300_000, "1 " * 100_000, "a." * 100_000 + "@", "AB12" * 60_000, ":" * 100_000])
def test_no_text_makes_the_search_slow(text: str) -> None:
    started = time.process_time()
    kinds_in(text)
    fingerprint(text[:100_000])
    assert time.process_time() - started < 5


def test_many_rows_of_one_kind_stay_quick() -> None:
    started = time.process_time()
    seen = Seen()
    for number in range(2000):
        one = fingerprint(f"Your parcel number {number:05d} has left our house and will be with you on Monday.")
        seen.match(one)
        seen.add(one)
    assert time.process_time() - started < 20
