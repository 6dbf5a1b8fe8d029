"""Names are found by capitals and by the words that announce them."""

from __future__ import annotations

import pytest

from tapchanger_serving.capture.proper import find
from tapchanger_serving.contract.capture import Names


def names(text: str, how: Names = "Capitals") -> list[str]:
    return [text[start:end] for start, end in find(text, how).spans]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("I met John Smith and then Mary at the shop.", ["John Smith", "Mary"]),
        ("John said it was fine with him.", ["John"]),
        ("Maria Garcia lives next to the station.", ["Maria Garcia"]),
        ("I work with Ludwig van Beethoven on this.", ["Ludwig van Beethoven"]),
        ("The film is good. It was on Monday, and I'm happy.", []),
        ("We flew to Paris with the NASA team.", ["Paris"]),
        ("This is great. Nobody knows why.", []),
    ],
)
def test_capitals_where_none_is_due(text: str, wanted: list[str]) -> None:
    found = names(text)
    assert found == wanted


@pytest.mark.parametrize(
    "text",
    [
        "hello, my name is john smith and i need help",
        "ich heiße hans müller und brauche hilfe",
        "bonjour, je m'appelle pierre dupont",
        "me llamo pablo garcía y necesito ayuda",
    ],
)
def test_announced_names_are_found_in_small_letters_too(text: str) -> None:
    assert names(text, "Cues")


def test_cues_alone_leave_other_capitals() -> None:
    assert names("Mr Smith went to Paris with the rest of us.", "Cues") == ["Smith"]


@pytest.mark.parametrize(
    ("text", "unclear"),
    [
        ("all small letters here", True),
        ("ALL CAPITALS HERE", True),
        ("Some of each here.", False),
        ("12345 !!", False),
        ("", False),
    ],
)
def test_where_capitals_tell_nothing(text: str, unclear: bool) -> None:
    assert find(text, "Capitals").unclear is unclear
