"""Looks at the texts, one after the other, as passes make them."""

from __future__ import annotations

import random
from typing import Any

import pytest
from pydantic import ValidationError

from tapchanger_operator.api.base import unix
from tapchanger_operator.api.drift import DriftSpec, DriftStatus
from tapchanger_operator.decide.drift.memory import Memory
from tapchanger_operator.decide.drift.respond import changes
from tapchanger_operator.decide.drift.watch import only_answers_moved, watch
from tapchanger_serving.contract.drift import DriftStep, DriftWindow, Reference

T0 = 1_700_000_000
SPEC = DriftSpec(false_alarm_every="1d")


def step(rng: random.Random, number: int, texts: int = 40, shift: int = 0, angry: float = 0.3) -> DriftStep:
    tokens: dict[int, int] = {}
    for _ in range(texts):
        length = round(rng.gauss(10, 2)) + shift
        tokens[length] = tokens.get(length, 0) + 1
    bad = sum(rng.random() < angry for _ in range(texts))
    sure = {18: texts // 2, 20: texts - texts // 2}
    return DriftStep(
        start=T0 + 10 * number,
        texts=texts,
        repeats=2,
        counts={"tokens": tokens, "confidence": sure},
        labels={"angry": bad, "calm": texts - bad},
    )


def reference() -> Reference:
    found = step(random.Random(1), 0, 2000)
    return Reference(
        digest="abc", texts=2000, counts=found.counts, labels=found.labels,
        labelled=2000, accuracy=0.95, confidence=0.995, gap=0.2,
    )  # fmt: skip


def look(
    before: DriftStatus | None,
    *steps: DriftStep,
    spec: DriftSpec = SPEC,
    known: Reference | None = None,
    revision: str = "r1",
) -> DriftStatus:
    until = max((one.start for one in steps), default=T0) + 10
    window = DriftWindow(
        namespace="a", deployment="m", revision=revision, now=until + 10, until=until, reference=known, steps=steps
    )
    return watch(spec, before, revision, window, evaluated=known is not None, now=until + 10)


def looks(before: DriftStatus | None, begin: int, end: int, seed: int = 2, **traffic: Any) -> DriftStatus:
    spec, known = traffic.pop("spec", SPEC), traffic.pop("known", None)
    rng, found = random.Random(seed), before
    for number in range(begin, end, 3):
        found = look(
            found, *(step(rng, one, **traffic) for one in range(number, min(number + 3, end))), spec=spec, known=known
        )
    assert found
    return found


def test_texts_like_the_reference_are_no_drift_and_others_are_with_what_moved_and_since_when() -> None:
    quiet = looks(None, 0, 60, known=reference())
    assert (quiet.verdict, quiet.texts, quiet.repeats) == ("none", 2400, 120)
    assert quiet.accuracy
    assert quiet.accuracy.reliable
    assert quiet.accuracy.low < 0.95 < quiet.accuracy.high
    found = looks(quiet, 60, 90, shift=5, known=reference())
    assert (found.verdict, found.feature, found.signal) == ("tokens", "tokens", "tokens")
    assert found.since
    assert abs(unix(found.since) - (T0 + 600)) <= 30
    assert found.figures[0].signal == "tokens"
    assert found.figures[0].psi > 1
    assert found.buckets[0].name
    assert found.accuracy
    assert not found.accuracy.reliable
    assert [change.reason for change in changes(quiet, found)] == ["Drifted"]
    assert changes(found, found) == ()
    over = looks(found, 90, 250, known=reference())
    assert over.verdict == "none"
    assert [change.reason for change in changes(found, over)] == ["DriftOver"]


def test_a_memory_that_was_written_goes_on_where_it_was() -> None:
    whole = looks(None, 0, 30, known=reference())
    memory = Memory.read(whole.state)
    assert memory
    assert memory.to_dict() == whole.state
    assert Memory.read({**whole.state, "version": 99}) is None
    assert Memory.read({**whole.state, "tracks": {"tokens": "x"}}) is None


def test_a_step_counts_once_however_often_it_is_told() -> None:
    known = looks(None, 0, 30, known=reference())
    assert look(known, step(random.Random(9), 29), known=reference()).texts == known.texts


def test_a_look_that_saw_nothing_changes_nothing() -> None:
    known = looks(None, 0, 30, known=reference())
    assert look(known, known=reference()) is known


def test_the_first_texts_become_the_reference_and_later_ones_are_compared_with_them() -> None:
    spec = DriftSpec.model_validate({"reference": {"firstRequests": 1000}, "falseAlarmEvery": "1d"})
    learning = looks(None, 0, 12, spec=spec)
    assert (learning.verdict, learning.message) == ("learning", "the reference is being learned: 480 of 1000 texts")
    quiet = looks(learning, 12, 60, spec=spec, seed=3)
    assert (quiet.verdict, quiet.reference) == ("none", "the first 1000 texts")
    assert looks(quiet, 60, 90, spec=spec, shift=5).verdict == "tokens"
    assert look(quiet, step(random.Random(4), 61), spec=spec, revision="r2").verdict == "learning"


def test_without_a_word_of_a_reference_the_first_texts_are_it_and_with_one_they_are_waited_for() -> None:
    assert look(None, step(random.Random(4), 1)).message == "the reference is being learned: 40 of 5000 texts"
    explicit = DriftSpec(reference="evaluation")
    missing = look(None, step(random.Random(4), 1), spec=explicit)
    assert missing.verdict == "unknown"
    assert "the engine holds no reference" in missing.message
    assert look(missing, step(random.Random(4), 2), spec=explicit, known=reference()).verdict == "none"


def test_a_reference_that_is_announced_late_takes_the_place_of_the_first_texts() -> None:
    learning = look(None, step(random.Random(4), 1))
    assert learning.verdict == "learning"
    found = look(learning, step(random.Random(4), 2), known=reference())
    assert (found.verdict, found.reference, found.texts) == ("none", "2000 texts", 40)
    assert look(found, step(random.Random(4), 3)).texts == 80


def test_only_the_features_that_are_wanted_are_compared() -> None:
    spec = DriftSpec(features=["labels"], false_alarm_every="1d")
    quiet = looks(None, 0, 60, spec=spec, shift=5, known=reference())
    assert quiet.verdict == "none"
    assert looks(quiet, 60, 90, spec=spec, angry=0.8, known=reference()).verdict == "labels"


def test_answers_that_moved_are_told_from_texts_that_moved() -> None:
    quiet = looks(None, 0, 60, known=reference())
    answers = looks(quiet, 60, 90, angry=0.8, known=reference())
    assert answers.verdict == "labels"
    assert only_answers_moved(SPEC, answers)
    assert not only_answers_moved(SPEC, looks(quiet, 60, 90, shift=5, known=reference()))
    assert not only_answers_moved(SPEC, looks(quiet, 60, 90, angry=0.8, shift=5, known=reference()))
    assert not only_answers_moved(SPEC, quiet)


def test_the_record_stays_small() -> None:
    found = looks(None, 0, 90, known=reference())
    assert len(found.model_dump_json()) < 4000


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("evaluated", "write evaluation, {uri: …, text: COLUMN} or {firstRequests: 5000}"),
        ({"firstRequests": 5}, "firstRequests: write a number from 100 to 1000000"),
        ({"dataset": "x"}, "write evaluation, {uri: …, text: COLUMN} or {firstRequests: 5000}"),
    ],
)
def test_a_reference_that_is_none_is_refused_with_what_to_write(written: Any, wanted: str) -> None:
    with pytest.raises(ValidationError, match="reference") as refused:
        DriftSpec.model_validate({"reference": written})
    assert wanted in str(refused.value)
