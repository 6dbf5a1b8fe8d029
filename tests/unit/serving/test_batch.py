"""One bad text fails its own request and no other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from tokenizers import Encoding

from tapchanger_serving.backends.batch import Answered, Refusal, Texts, answer_each, read_texts, where
from tapchanger_serving.engines.answers import Answers


class Echo:
    """Answers with the length of each text and refuses to tokenize, or to answer, texts with a marker."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, bool]] = []

    def tokenize(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Encoding]:
        self.calls.append((len(texts), pairs is not None))
        if any("poison" in text for text in texts):
            raise ValueError("private words")
        joined = texts if pairs is None else [f"{text}+{pair}" for text, pair in zip(texts, pairs, strict=True)]
        return list(joined)  # type: ignore[arg-type]

    def answer(self, texts: Sequence[str], encodings: Sequence[Encoding]) -> Answers:
        if any("crash" in text for text in texts):
            raise RuntimeError("engine")
        return {"seen": np.array([[str(encoding)] for encoding in encodings], dtype=np.object_)}


def seen(answer: Answered) -> list[str]:
    assert not isinstance(answer.outcome, Refusal)
    return [str(row[0]) for row in answer.outcome["seen"]]


def test_all_texts_of_a_batch_are_tokenized_in_one_call() -> None:
    model = Echo()
    answers = answer_each(model, [Texts(("a", "b")), Texts(("c",))], failed=pytest.fail)
    assert [seen(answer) for answer in answers] == [["a", "b"], ["c"]]
    assert model.calls == [(3, False)]


def test_pairs_and_single_texts_share_a_batch_and_keep_their_places() -> None:
    requests = [Texts(("a",)), Texts(("b", "c"), ("B", "C")), Texts(("d",))]
    answers = answer_each(Echo(), requests, failed=pytest.fail)
    assert [seen(answer) for answer in answers] == [["a"], ["b+B", "c+C"], ["d"]]


def test_each_request_knows_its_number_of_tokens() -> None:
    requests = [Texts(("abc", "de")), Texts(("f",), ("gh",)), Texts(("poison",))]
    assert [answer.tokens for answer in answer_each(Echo(), requests, [].append)] == [5, 4, 0]


@pytest.mark.parametrize("bad", ["poison", "crash"])
def test_a_bad_text_fails_alone(bad: str) -> None:
    failures: list[BaseException] = []
    answers = answer_each(Echo(), [Texts(("a",)), Texts((bad,)), Texts(("c",))], failures.append)
    assert seen(answers[0]) == ["a"]
    assert seen(answers[2]) == ["c"]
    assert isinstance(answers[1].outcome, Refusal)
    assert not answers[1].outcome.client
    assert len(failures) == 1


def test_neither_refusals_nor_logs_quote_an_error_that_could_quote_the_text() -> None:
    failures: list[BaseException] = []
    (answer,) = answer_each(Echo(), [Texts(("poison",))], failures.append)
    assert isinstance(answer.outcome, Refusal)
    assert "private" not in answer.outcome.message
    assert "private" not in where(failures[0])
    assert where(failures[0]).startswith("ValueError in tokenize:")


def test_no_requests_are_no_work() -> None:
    model = Echo()
    assert answer_each(model, [], failed=pytest.fail) == []
    assert model.calls == []


def test_bytes_that_are_no_utf8_are_the_clients_mistake() -> None:
    refusal = read_texts(np.array([[b"fine"], [b"caf\xe9"]], dtype=np.object_), "text")
    assert refusal == Refusal("text: row 1 is not UTF-8 (byte 3); send text encoded as UTF-8", client=True)


def test_empty_texts_and_nul_bytes_are_texts() -> None:
    assert read_texts(np.array([[b""], [b"a\0b"]], dtype=np.object_), "text") == ("", "a\0b")
