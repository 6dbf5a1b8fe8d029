"""Texts as spans tell of them, and what the observer answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from tapchanger_serving.contract import drift, names
from tapchanger_serving.contract.drift import DriftWindow, Reference
from tapchanger_serving.observer import question
from tapchanger_serving.observer.drift import Drift, answer, merge
from tapchanger_serving.observer.ingest import Ingest
from tapchanger_serving.observer.question import QueryError
from tapchanger_serving.observer.spans import Span
from tapchanger_serving.observer.windows import Windows

NOW, NANO = 1_700_000_000.0, 1_000_000_000
BINS = tuple(min(3, signal.bins - 1) for signal in drift.SIGNALS)
ABOUT = {"namespace": "default", "deployment": "moderation", "revision": "r1"}


def server_span(number: int, ago: float, **attributes: str) -> Span:
    end = round((NOW - ago) * NANO)
    fixed = {f"tapchanger.{name}": value for name, value in ABOUT.items()}
    told = {"tapchanger.component": "server", "triton.model_name": "moderation", names.ATTR_COMPUTE: "0.001", **fixed}
    told |= {f"tapchanger.{name.replace('_', '.')}": value for name, value in attributes.items()}
    ids = number.to_bytes(16, "big"), number.to_bytes(8, "big")
    return Span(*ids, b"", "moderation", 2, end - NANO // 100, end, told, (("QUEUE_START", end - NANO // 100),))


def asked(windows: Windows, **query: str) -> DriftWindow:
    key, since = question.read_drift(MultiDict({**ABOUT, **query}))
    return answer(windows.of(key).drift if windows.knows(key) else None, key, since, NOW)


def test_texts_are_counted_by_step_with_labels_and_repetitions() -> None:
    windows = Windows()
    taker = Ingest(windows, lambda: NOW)
    text = drift.encode(BINS)
    result = taker.take(
        [
            server_span(1, 45, drift=text, label="angry"),
            server_span(2, 44, drift=text, label="calm"),
            server_span(3, 44, drift="1;repeat"),
            server_span(4, 30, drift=text, label="calm"),
            server_span(5, 5, drift=text, label="calm"),
            server_span(6, 44, drift="9;of a later release"),
            server_span(7, 44),
        ],
        "http",
    )
    assert (result.refused, result.spans) == (0, 7)
    found = asked(windows)
    assert [(one.texts, one.repeats, one.labels) for one in found.steps] == [
        (2, 1, {"angry": 1, "calm": 1}),
        (1, 0, {"calm": 1}),
    ]
    assert found.steps[0].counts["tokens"] == {3: 2}
    assert found.until == NOW - drift.SETTLED
    assert not asked(windows, since=str(found.until)).steps


def test_the_reference_is_what_was_announced_last() -> None:
    windows = Windows()
    known = Reference(digest="abc", texts=7, counts={"tokens": {3: 7}})
    span = server_span(1, 20, drift="1;repeat", drift_reference=known.dumps())
    assert Ingest(windows, lambda: NOW).take([span], "http").refused == 0
    assert asked(windows).reference == known
    assert asked(windows, revision="r2").reference is None


@pytest.mark.parametrize("attributes", [{"drift": "1;x"}, {"drift": "1;repeat", "drift_reference": "{"}])
def test_what_can_not_be_read_is_refused_by_name(attributes: dict[str, str]) -> None:
    result = Ingest(Windows(), lambda: NOW).take([server_span(1, 20, **attributes)], "http")
    assert result.refused == 1
    assert "tapchanger.drift" in result.why


def test_bins_and_labels_are_bounded_and_old_steps_go() -> None:
    found = Drift()
    for number in range(100):
        found.take({names.ATTR_DRIFT: drift.encode(BINS), names.ATTR_LABEL: f"l{number}"}, NOW)
    (step,) = found.steps.values()
    assert len(step.labels) == drift.MOST_LABELS + 1
    assert step.labels[drift.OTHER_LABEL] == 100 - drift.MOST_LABELS
    found.drop(NOW + drift.KEPT + drift.STEP)
    assert not found.steps


def test_a_question_without_a_revision_is_told_what_to_write() -> None:
    with pytest.raises(QueryError, match="revision: found ''"):
        question.read_drift(MultiDict({"namespace": "a", "deployment": "b"}))
    with pytest.raises(QueryError, match="until: no such parameter"):
        asked(Windows(), until="1")


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(11, 99), st.integers(0, 5), st.booleans()), max_size=40))
def test_observers_together_say_what_one_would(texts: list[tuple[int, int, int, bool]]) -> None:
    whole, parts = Drift(), [Drift(), Drift(), Drift()]
    for where, ago, number, repeat in texts:
        bins = tuple(min(number, signal.bins - 1) for signal in drift.SIGNALS)
        told = "1;repeat" if repeat else drift.encode(bins)
        for one in (whole, parts[where]):
            one.take({names.ATTR_DRIFT: told, names.ATTR_LABEL: f"l{number}"}, NOW - ago)
    about = ("default", "moderation", "r1")
    merged = merge([answer(one, about, NOW - 95, NOW) for one in parts])
    assert merged == answer(whole, about, NOW - 95, NOW)


def test_what_has_not_settled_at_all_observers_waits_for_the_next_question() -> None:
    known, about = Reference(digest="abc", texts=7, counts={}), ("default", "moderation", "r1")
    ahead, behind = Drift(), Drift(reference=known)
    for ago in (45, 35, 25):
        ahead.take({names.ATTR_DRIFT: drift.encode(BINS)}, NOW - ago)
        behind.take({names.ATTR_DRIFT: drift.encode(BINS)}, NOW - ago)
    first = merge([answer(ahead, about, 0, NOW), answer(behind, about, 0, NOW - 20)])
    assert [step.texts for step in first.steps] == [2, 2]
    assert (first.until, first.reference) == (NOW - 30, known)
    second = merge([answer(one, about, first.until, NOW) for one in (ahead, behind)])
    assert [step.texts for step in second.steps] == [2]
