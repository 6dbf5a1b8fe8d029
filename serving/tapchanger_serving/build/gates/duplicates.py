"""Texts that are the same, exactly or nearly."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

NEAR = 0.8
"""Jaccard similarity of shingles from which texts are nearly the same."""

_SHINGLE = 5
_BANDS, _WIDTH = 16, 4
_TRIED = 8
_NOT_WORDS = re.compile(r"[\W_]+")
_SEED = 20_260_103

_random = np.random.default_rng(_SEED)
_FACTORS: Hashes = _random.integers(1, 2**63, _BANDS * _WIDTH, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_OFFSETS: Hashes = _random.integers(0, 2**63, _BANDS * _WIDTH, dtype=np.uint64)
_POWERS: Hashes = _random.integers(1, 2**63, _SHINGLE, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A text without case, punctuation and spacing; the hashes of its shingles; its MinHash signature in bands."""

    words: str
    shingles: Hashes
    bands: tuple[bytes, ...]


def plain(text: str) -> str:
    """A text without case, punctuation and spacing: texts for which it is equal are the same."""
    return _NOT_WORDS.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def fingerprint(text: str) -> Fingerprint:
    """Shingles are five characters each; the signature is that of Broder 1997, On the resemblance and containment."""
    words = plain(text)
    points = np.frombuffer(words.ljust(_SHINGLE).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(points, _SHINGLE)
    shingles: Hashes = np.unique((windows * _POWERS).sum(axis=1, dtype=np.uint64))
    mixed = (shingles ^ (shingles >> np.uint64(29)))[None, :] * _FACTORS[:, None] + _OFFSETS[:, None]
    signature = (mixed >> np.uint64(32)).min(axis=1).reshape(_BANDS, _WIDTH)
    return Fingerprint(words, shingles, tuple(band.tobytes() for band in signature))


class Seen:
    """Fingerprints by their words and by the bands of their signatures."""

    def __init__(self, prints: Iterable[Fingerprint] = ()) -> None:
        self._words: set[str] = set()
        self._buckets: defaultdict[tuple[int, bytes], list[Fingerprint]] = defaultdict(list)
        for one in prints:
            self.add(one)

    def add(self, one: Fingerprint) -> None:
        """Remembers a text."""
        if one.words in self._words:
            return
        self._words.add(one.words)
        for place in enumerate(one.bands):
            if len(self._buckets[place]) < _TRIED:
                self._buckets[place].append(one)

    def match(self, one: Fingerprint) -> Literal["exact", "near"] | None:
        """Whether the text, or nearly the same, was remembered."""
        if one.words in self._words:
            return "exact"
        near = {id(other): other for place in enumerate(one.bands) for other in self._buckets.get(place, ())}
        return "near" if any(_alike(one, other) >= NEAR for other in near.values()) else None


def _alike(one: Fingerprint, other: Fingerprint) -> float:
    common = len(np.intersect1d(one.shingles, other.shingles, assume_unique=True))
    return common / (len(one.shingles) + len(other.shingles) - common)
