"""Figures and times are short, and true to what they stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapchanger_cli import words
from tapchanger_operator.api.base import seconds


@pytest.mark.parametrize(
    ("length", "text"),
    [(-3, "0s"), (0.4, "0s"), (40, "40s"), (60, "1m"), (750, "12m30s"), (3600, "1h"), (3660, "1h1m"), (443000, "5d3h")],
)
def test_a_length_of_time_has_its_two_largest_units(length: float, text: str) -> None:
    assert words.duration(length) == text


@given(st.integers(min_value=0, max_value=10**9))
def test_a_length_of_time_is_right_to_the_second_of_its_two_units(length: int) -> None:
    shown = seconds(words.duration(length))
    assert 0 <= length - shown < (3600 if length >= 86400 else 60 if length >= 3600 else 1)


def test_shares_and_figures() -> None:
    assert words.of(12, 40) == "12 of 40 (30 %)"
    assert words.of(0, 0) == "no requests"
    assert [words.number(value) for value in (0.4321, 12.4, 3.1e10)] == ["0.43", "12", "3.1e+10"]
    assert words.clock("2026-11-24T10:00:00.250Z") == "2026-11-24 10:00:00Z"


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_printable_text_has_no_control_characters_and_keeps_its_shape(value: object) -> None:
    def texts(part: object) -> list[str]:
        if isinstance(part, dict):
            return [text for inner in part.values() for text in texts(inner)]
        if isinstance(part, list):
            return [text for inner in part for text in texts(inner)]
        return [part] if isinstance(part, str) else []

    clean = words.printable(value)
    assert [len(text) for text in texts(clean)] == [len(text) for text in texts(value)]
    assert all(
        char in "\n\t" or not (ord(char) < 32 or 127 <= ord(char) < 160) for text in texts(clean) for char in text
    )
