"""What a text is like, in numbers: its length, words and script, how sure the answer is, and a sketch of what it is about.

The build describes the reference with this code and the server each text that it is asked, so that both mean the same.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding

from tapchanger_serving.contract import drift, names
from tapchanger_serving.contract.drift import Reference
from tapchanger_serving.engines.answers import Answers
from tapchanger_serving.engines.scripts import script_of
from tapchanger_serving.engines.text import Tokenizer

PER_BIT: Final = 10
"""A level of the vocabulary is a tenth of a bit."""
_HIGHEST: Final = 255
_SEEN: Final = 2.0
"""A token that fewer than two texts of the reference have is rare. The bound lies between the levels of one and of two."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Vocabulary:
    """How surprising each token is: `levels[id]` tenths of a bit. Tokens at `rare` and above are hardly in the reference."""

    levels: npt.NDArray[np.float32]
    rare: float

    @classmethod
    def of(cls, documents: Ints, texts: int) -> Vocabulary:
        """From the number of texts that have each token, of `texts` in all."""
        return cls(level(documents, texts), float(PER_BIT * np.log2((texts + 1.0) / _SEEN)))


def level(documents: Ints, texts: int) -> npt.NDArray[np.float32]:
    """Tenths of bits of surprise at a token that `documents` of `texts` texts have, at most 25.5 bits, in whole tenths."""
    bits = -np.log2((documents + 0.5) / (texts + 1.0))
    levels: npt.NDArray[np.float32] = np.clip(np.rint(PER_BIT * bits), 0, _HIGHEST).astype(np.float32)
    return levels


@dataclass(frozen=True)
class Known:
    """The file `drift.json` of an artifact: the reference, and the vocabulary of its texts."""

    reference: Reference
    vocabulary: Vocabulary

    def dumps(self) -> str:
        """As the file has it."""
        packed = base64.b64encode(zlib.compress(self.vocabulary.levels.astype(np.uint8).tobytes(), 9)).decode()
        told = json.loads(self.reference.dumps())
        return json.dumps({"format": 1, "reference": told, "levels": packed, "rare": self.vocabulary.rare})

    @classmethod
    def read(cls, folder: Path) -> Known | None:
        """What the artifact in `folder` says of its reference; None of one that has no such file, or a later format."""
        path = folder / drift.REFERENCE_FILE
        if not path.is_file():
            return None
        told = json.loads(path.read_text())
        if told["format"] != 1:
            return None
        levels = np.frombuffer(zlib.decompress(base64.b64decode(told["levels"])), dtype=np.uint8)
        vocabulary = Vocabulary(levels.astype(np.float32), float(told["rare"]))
        return cls(Reference.model_validate(told["reference"]), vocabulary)


class Told(NamedTuple):
    """One text: a bin for each signal, its answered label where there is one, and the share of odd tokens."""

    bins: tuple[int | None, ...]
    label: str | None
    oov: float


class Describer:
    """Describes texts of one model. `starts` says by id whether a token begins a word, `unknown` is the id of the tokenizer's
    unknown token, `vocabulary` what the reference has.
    """

    def __init__(
        self, starts: npt.NDArray[np.bool_], unknown: int | None, vocabulary: Vocabulary | None = None
    ) -> None:
        self._starts = starts
        self._unknown = unknown
        self._vocabulary = vocabulary
        self._signs = signs(starts.size)

    @classmethod
    def of(cls, tokenizer: Tokenizer, vocabulary: Vocabulary | None = None) -> Describer:
        """For the texts of one tokenizer."""
        return cls(tokenizer.word_starts(), tokenizer.unknown_id(), vocabulary)

    def describe(
        self, text: str, encoding: Encoding, answers: Answers, row: int, documents: Ints | None = None, texts: int = 0
    ) -> Told:
        """One text, its tokens, and row `row` of the answers.

        A text of the reference itself is described beside the others alone: `documents` counts by token which of the `texts`
        others have it. With its own tokens counted every text would look more usual to the reference that holds it than
        others like it.
        """
        ids = np.array(encoding.ids, dtype=np.int64)
        distinct = np.unique(ids)
        unknown = float((ids == self._unknown).mean()) if self._unknown is not None and ids.size else 0.0
        levels = self._levels(distinct) if documents is None else level(documents[distinct], texts)
        rare = surprise = None
        if levels is not None and self._vocabulary is not None and levels.size:
            rare = float((levels >= self._vocabulary.rare).mean())
            surprise = float(levels.mean()) / PER_BIT
        score, entropy = _certainty(answers, row)
        bins = (
            drift.token_bin(ids.size),
            drift.share_bin(unknown),
            None if rare is None else drift.share_bin(rare),
            None if surprise is None else drift.surprise_bin(surprise),
            drift.pieces_bin(self._pieces(ids)),
            script_of(text),
            None if score is None else drift.confidence_bin(score),
            None if entropy is None else drift.entropy_bin(entropy),
            *self._sketch(distinct, levels, answers, row),
        )
        label = answers[names.LABEL][row, 0].decode(errors="replace") if names.LABEL in answers else None
        return Told(bins, label, round(max(unknown, rare or 0.0), 3))

    def _pieces(self, ids: Ints) -> float:
        """Tokens per word, the tokenizer's own tokens among both."""
        words = int(self._starts[np.minimum(ids, self._starts.size - 1)].sum())
        return ids.size / max(words, 1)

    def _levels(self, distinct: Ints) -> npt.NDArray[np.float32] | None:
        if self._vocabulary is None:
            return None
        table = self._vocabulary.levels
        return table[np.minimum(distinct, table.size - 1)]

    def _sketch(
        self, distinct: Ints, levels: npt.NDArray[np.float32] | None, answers: Answers, row: int
    ) -> tuple[int | None, ...]:
        """Bins of a random projection: of the embedding where the model gives one, else of which tokens a text has, weighted
        by how surprising they are. Its direction counts, so that the length of a text does not.
        """
        if names.EMBEDDING in answers:
            embedding = answers[names.EMBEDDING][row]
            projected = embedding @ signs(embedding.size)
        elif distinct.size:
            known = self._signs[np.minimum(distinct, len(self._signs) - 1)]
            projected = (np.ones(distinct.size, dtype=np.float32) if levels is None else levels) @ known
        else:
            return (None,) * drift.SKETCH
        length = float(np.sqrt(projected @ projected))
        if not length > 0.0:
            return (None,) * drift.SKETCH
        scaled = (projected * (drift.SKETCH**0.5 / length)).tolist()
        return tuple(map(drift.coordinate_bin, scaled))


@lru_cache(maxsize=4)
def signs(size: int) -> npt.NDArray[np.float32]:
    """`[size, SKETCH]` of 1 and -1, the same in every process: the bits of SHAKE-128 over the size (Achlioptas 2003)."""
    stream = hashlib.shake_128(f"tapchanger drift {drift.SKETCH}".encode()).digest(size * drift.SKETCH // 8)
    bits = np.unpackbits(np.frombuffer(stream, dtype=np.uint8)).reshape(size, drift.SKETCH)
    found: npt.NDArray[np.float32] = bits.astype(np.float32) * 2 - 1
    return found


def _certainty(answers: Answers, row: int) -> tuple[float | None, float | None]:
    """Confidence, and entropy of three and more scores as a share of the largest one."""
    if names.SCORE not in answers:
        return None, None
    confidence = float(answers[names.SCORE][row, 0])
    scores = answers[names.SCORES][row]
    if scores.size < 3:
        return confidence, None
    shares = scores / max(float(scores.sum()), 1e-12)
    entropy = float(-(shares * np.log(np.maximum(shares, 1e-12))).sum()) / float(np.log(scores.size))
    return confidence, entropy


def reference(
    told: Sequence[Told], right: npt.NDArray[np.bool_] | None, confidences: npt.NDArray[np.float64]
) -> Reference:
    """The reference that `told` make up. `right` says of each text whether its label was answered, None where labels are unknown.

    `confidences` are those of the same texts; empty of tasks without.
    """
    counts: dict[str, dict[int, int]] = {}
    for position, signal in enumerate(drift.SIGNALS):
        found = Counter(one.bins[position] for one in told)
        known = {number: count for number, count in sorted(found.items(), key=str) if number is not None}
        if known:
            counts[signal.name] = dict(sorted(known.items()))
    labels = Counter(one.label for one in told if one.label is not None)
    figures: dict[str, Any] = {}
    if right is not None and right.size and right.size == confidences.size:
        figures = {
            "labelled": int(right.size),
            "accuracy": round(float(right.mean()), 6),
            "confidence": round(float(confidences.mean()), 6),
            "gap": round(float((right - confidences).std()), 6),
        }
    content = {"texts": len(told), "counts": counts, "labels": dict(labels.most_common(drift.MOST_LABELS)), **figures}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
    return Reference(digest=digest, **content)
