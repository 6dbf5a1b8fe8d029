"""Seeded perturbations of texts: what people, keyboards and copying do to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from tapchanger_serving.build.gates.rephrase import rephrased
from tapchanger_serving.contract.gates import PerturbationKind

_SEED = 20_260_104
_EVERY = 8
"""Typos: one in so many words."""
_NOISE = 0.05
"""Noise: the share of characters that change."""
_KEPT = 0.75
"""Truncation: the share of words that stay."""
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SPACES = ("  ", "\t", "\n", " \n ", "\u00a0")

Random = np.random.Generator


def perturbed(kind: PerturbationKind, text: str, number: int) -> str:
    """The text perturbed in one way, always the same for its `number`. For `words`, see the search in `robustness`."""
    return _KINDS[kind](text, np.random.default_rng([_SEED, list(_KINDS).index(kind), number]))


def _typos(text: str, random: Random) -> str:
    """In one of eight words, two letters are swapped, or one is dropped, doubled or hit beside."""
    words = text.split(" ")
    long = [index for index, word in enumerate(words) if len(word) > 2] or list(range(len(words)))
    for index in random.choice(long, size=max(len(words) // _EVERY, 1)):
        words[index] = _typo(words[index], random)
    return " ".join(words)


def _typo(word: str, random: Random) -> str:
    if not word:
        return word
    at = int(random.integers(max(len(word) - 1, 1)))
    before, here, after = word[:at], word[at], word[at + 1 :]
    match int(random.integers(4)):
        case 0:
            return before + after[:1] + here + after[1:]
        case 1:
            return before + after
        case 2:
            return before + here + here + after
        case _:
            return before + _LETTERS[int(random.integers(len(_LETTERS)))] + after


def _casing(text: str, random: Random) -> str:
    styles: tuple[Callable[[str], str], ...] = (str.upper, str.lower, str.title, str.swapcase)
    return styles[int(random.integers(len(styles)))](text)


def _whitespace(text: str, random: Random) -> str:
    """Each gap becomes another kind of gap with a chance of one half, and the text gets some around it."""
    words = text.split(" ")
    gaps = [_SPACES[int(random.integers(len(_SPACES)))] if random.random() < 0.5 else " " for _ in words[1:]]
    return " " + "".join(word + gap for word, gap in zip(words, [*gaps, ""], strict=True)) + "\n"


def _truncation(text: str, _: Random) -> str:
    words = text.split()
    return " ".join(words[: max(round(_KEPT * len(words)), 1)])


def _noise(text: str, random: Random) -> str:
    """Of twenty characters, one is replaced, dropped or has another before it."""
    out = []
    for sign in text:
        if random.random() >= _NOISE:
            out.append(sign)
            continue
        other = _LETTERS[int(random.integers(len(_LETTERS)))]
        out.append(("", other, other + sign)[int(random.integers(3))])
    return "".join(out)


_KINDS: Mapping[PerturbationKind, Callable[[str, Random], str]] = {
    "typos": _typos,
    "casing": _casing,
    "whitespace": _whitespace,
    "truncation": _truncation,
    "noise": _noise,
    "paraphrase": rephrased,
}


def without(text: str, index: int) -> str:
    """The text without one of its words."""
    words = text.split()
    return " ".join(words[:index] + words[index + 1 :])


def transposed(text: str, index: int) -> str:
    """The text with one of its words behind the next, or before the one before if it is the last."""
    words = text.split()
    if len(words) > 1:
        first = min(index, len(words) - 2)
        words[first], words[first + 1] = words[first + 1], words[first]
    return " ".join(words)
