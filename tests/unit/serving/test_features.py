"""What a server tells of a text: bins, a label, and nothing that gives the text away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapchanger_serving.backends.described import ANNOUNCED_EVERY, REPEAT_SECONDS, TextsTold
from tapchanger_serving.contract import drift, names
from tapchanger_serving.contract.drift import SCRIPTS
from tapchanger_serving.engines.features import Describer, Known, Vocabulary, reference
from tapchanger_serving.engines.scripts import script_of


class Encoded:
    """A tokenizer's answer."""

    def __init__(self, *ids: int) -> None:
        self.ids = list(ids)


def answers(score: float = 0.9) -> dict[str, Any]:
    return {
        names.LABEL: np.array([[b"angry"]], dtype=object),
        names.SCORE: np.array([[score]], dtype=np.float32),
        names.SCORES: np.array([[score, 1 - score]], dtype=np.float32),
    }


STARTS = np.array([True, True, True, True, False, True])
VOCABULARY = Vocabulary.of(np.array([100, 0, 60, 30, 1, 90]), 100)


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("plain words", "ASCII"),
        ("garçon déjà vu", "Latin"),
        ("привет, как дела", "Cyrillic"),
        ("I love 東京 very much indeed", "ASCII"),
        ("我們喜歡東京", "Han"),
        ("ありがとう", "Kana"),
        ("안녕하세요", "Hangul"),
        ("مرحبا", "Arabic"),
        ("😀😀", "symbols"),
        ("12:30, 7", "no letters"),
        ("  ", "empty"),
    ],
)
def test_the_script_is_that_of_most_of_the_text(text: str, script: str) -> None:
    assert SCRIPTS[script_of(text)] == script


@given(st.text())
def test_every_text_has_a_script(text: str) -> None:
    assert 0 <= script_of(text) < len(SCRIPTS)


def test_a_text_of_unusual_words_surprises_more_and_has_rare_ones() -> None:
    describer = Describer(STARTS, 1, VOCABULARY)
    usual = describer.describe("a b", Encoded(0, 5), answers(), 0)  # type: ignore[arg-type]
    odd = describer.describe("c d", Encoded(4, 1), answers(), 0)  # type: ignore[arg-type]
    position = {signal.name: number for number, signal in enumerate(drift.SIGNALS)}
    for name in ("unknown", "rare", "surprise", "pieces"):
        assert (odd.bins[position[name]] or 0) > (usual.bins[position[name]] or 0), name
    assert (usual.label, usual.oov, odd.oov) == ("angry", 0.0, 1.0)
    assert all(one is None or 0 <= one < signal.bins for one, signal in zip(odd.bins, drift.SIGNALS, strict=True))


def test_a_text_of_the_reference_does_not_count_for_itself() -> None:
    rng = np.random.default_rng(0)
    ranks = (rng.zipf(1.3, size=(400, 12)) - 1) % 500
    documents = np.zeros(500, dtype=np.int64)
    for row in ranks[:200]:
        documents[np.unique(row)] += 1
    describer = Describer(np.ones(500, dtype=bool), None, Vocabulary.of(documents, 200))
    own = []
    for row in ranks[:200]:
        documents[np.unique(row)] -= 1
        own.append(describer.describe("", Encoded(*row.tolist()), {}, 0, documents, 199).bins[3])  # type: ignore[arg-type]
        documents[np.unique(row)] += 1
    new = [describer.describe("", Encoded(*row.tolist()), {}, 0).bins[3] for row in ranks[200:]]  # type: ignore[arg-type]
    assert np.mean([one or 0 for one in own]) == pytest.approx(np.mean([one or 0 for one in new]), abs=0.8)


def test_bins_survive_the_span_and_what_is_none_is_refused() -> None:
    told = Describer(STARTS, 1).describe("a b", Encoded(0, 5), answers(), 0)  # type: ignore[arg-type]
    assert drift.decode(drift.encode(told.bins)) == told.bins
    assert drift.decode("2;whatever") is None
    for bad in ("1;1,2", "1;" + ",".join(["999"] * len(drift.SIGNALS)), "1;" + ",".join(["x"] * len(drift.SIGNALS))):
        with pytest.raises(ValueError, match="expected"):
            drift.decode(bad)


def test_the_artifacts_file_gives_back_what_the_build_wrote(tmp_path: Path) -> None:
    told = [Describer(STARTS, 1, VOCABULARY).describe("a b", Encoded(0, 5), answers(), 0)] * 40  # type: ignore[arg-type]
    known = Known(reference(told, np.array([True] * 40), np.array([0.9] * 40)), VOCABULARY)
    (tmp_path / drift.REFERENCE_FILE).write_text(known.dumps())
    again = Known.read(tmp_path)
    assert again
    assert again.reference == known.reference
    assert again.vocabulary.levels.tolist() == VOCABULARY.levels.tolist()
    assert (again.reference.accuracy, again.reference.labels) == (1.0, {"angry": 40})
    assert Known.read(tmp_path / "nowhere") is None


def test_a_repeated_text_says_so_for_a_minute_and_the_reference_is_told_once_a_minute() -> None:
    now = [0.0]
    known = Known(reference([], None, np.array([])), VOCABULARY)
    telling = TextsTold(Describer(STARTS, 1, VOCABULARY), known, lambda: now[0])

    def tell(*ids: int) -> dict[str, Any]:
        return telling.attributes(["x"], [Encoded(*ids)], answers(), 7)  # type: ignore[list-item]

    first = tell(0, 5, 2)
    assert set(first) == {names.ATTR_DRIFT, names.ATTR_OOV, names.ATTR_LABEL, names.ATTR_DRIFT_REFERENCE}
    assert tell(5, 2, 0) == {names.ATTR_DRIFT: "1;repeat"}
    assert names.ATTR_DRIFT_REFERENCE not in tell(0, 3)
    now[0] = max(REPEAT_SECONDS, ANNOUNCED_EVERY)
    assert tell(0, 5, 2) == first


def test_one_text_of_a_request_is_told_and_chance_chooses_it() -> None:
    telling = TextsTold(Describer(STARTS, 1), None)
    both = answers()
    both = {name: np.concatenate([rows, rows]) for name, rows in both.items()}
    both[names.LABEL] = np.array([[b"angry"], [b"calm"]], dtype=object)
    texts, encodings = ["a", "b"], [Encoded(0, 2), Encoded(0, 3)]
    found = {telling.attributes(texts, encodings, both, number).get(names.ATTR_LABEL) for number in (4, 5)}  # type: ignore[arg-type]
    assert found == {"angry", "calm"}
    assert telling.attributes([], [], both, 4) == {}
