"""The same in other words, as far as rules can do it without changing what is meant: contractions, numbers, empty openings."""

from __future__ import annotations

import re

import numpy as np

_FULL = {
    "do not": "don't", "does not": "doesn't", "did not": "didn't", "is not": "isn't", "are not": "aren't",
    "was not": "wasn't", "were not": "weren't", "have not": "haven't", "has not": "hasn't", "had not": "hadn't",
    "will not": "won't", "would not": "wouldn't", "could not": "couldn't", "should not": "shouldn't", "can not": "can't",
    "cannot": "can't", "i am": "I'm", "you are": "you're", "we are": "we're", "they are": "they're", "it is": "it's",
    "that is": "that's", "i have": "I've", "we have": "we've", "i will": "I'll", "let us": "let's",
}  # fmt: skip
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_OPENINGS = ("Well, ", "So, ", "Look, ", "Basically, ", "You know, ")
_WORDS_FOR_OPENING = 4

_SWAPS = {
    **_FULL,
    **{short.lower(): full for full, short in _FULL.items() if full != "can not"},
    **{word: str(number) for number, word in enumerate(_NUMBERS)},
    **{str(number): word for number, word in enumerate(_NUMBERS)},
}
_PATTERN = re.compile(
    r"(?<![\w'])(?:" + "|".join(sorted(map(re.escape, _SWAPS), key=len, reverse=True)) + r")(?![\w'])", re.IGNORECASE
)


def rephrased(text: str, random: np.random.Generator) -> str:
    """English contractions and small numbers are written the other way; a text of four words or more gets an empty opening."""
    changed = _PATTERN.sub(lambda found: _as_before(found[0], _SWAPS[found[0].lower()]), text)
    if len(changed.split()) < _WORDS_FOR_OPENING:
        return changed
    return _OPENINGS[int(random.integers(len(_OPENINGS)))] + changed


def _as_before(found: str, other: str) -> str:
    """The replacement with the first letter's case."""
    return other[:1].upper() + other[1:] if found[:1].isupper() else other
