"""Tagged words as a sample: entities of token classifiers."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from tapchanger_serving.build.answers import Floats, decided
from tapchanger_serving.build.exported import Exported
from tapchanger_serving.build.gates import metrics
from tapchanger_serving.build.gates.metrics import Ints
from tapchanger_serving.build.gates.resampling import Statistic
from tapchanger_serving.build.gates.results import UnanswerableError
from tapchanger_serving.build.gates.samples import Mask, pick
from tapchanger_serving.contract.gates import LABEL_SEPARATOR, MetricName
from tapchanger_serving.engines.postprocess import OUTSIDE
from tapchanger_serving.engines.text import Tokenizer

_WORD = re.compile(r"\S+")
_BETWEEN = re.compile(rf"[\s{re.escape(LABEL_SEPARATOR)}]+")

Entities = frozenset[tuple[str, int, int]]


@dataclass(frozen=True, slots=True)
class Tagged:
    """Per text: entities that are found and true, found at all, and true at all."""

    hits: Ints
    found: Ints
    true: Ints

    def __len__(self) -> int:
        return len(self.hits)

    def take(self, rows: Mask) -> Self:
        """Some of the rows."""
        return type(self)(self.hits[rows], self.found[rows], self.true[rows])

    def wrong(self) -> Mask:
        """Texts with an entity too many or too few."""
        wrong: Mask = (self.hits != self.found) | (self.hits != self.true)
        return wrong

    def statistic(self, metric: MetricName) -> Statistic:
        """`entity_f1`: F1 of all entities together; one counts if its type and both ends are right."""
        return pick(
            metric, {"entity_f1": lambda: metrics.ratio(2 * self.hits, self.found + self.true)}, "token-classification"
        )


def tagged(
    texts: Sequence[str], labels: Sequence[str], scores: Floats, model: Exported, tokenizer: Tokenizer
) -> Tagged:
    """The data's tags, one per word between spaces, beside the tokens' scores `[all tokens of all texts, labels]`.

    A word has the tag of its first token, and `O` where the text was cut before it. Raises :class:`UnanswerableError`
    where words and tags don't match.
    """
    counts = []
    encodings = tokenizer.tokenize(texts, offsets=True)
    tokens = np.split(decided(scores), np.cumsum([max(len(encoding) - 2, 0) for encoding in encodings])[:-1])
    for number, (text, label, encoding, best) in enumerate(zip(texts, labels, encodings, tokens, strict=True), start=1):
        words = [match.span() for match in _WORD.finditer(text)]
        tags = [tag for tag in _BETWEEN.split(label.strip()) if tag]
        if len(tags) != len(words):
            raise UnanswerableError(
                f"row {number} has {len(words)} words and {len(tags)} tags; write one tag per word, with spaces between"
            )
        given = _word_tags(words, encoding.offsets[1:-1], [model.labels[label] for label in best])
        true, found = entities(tags), entities(given)
        counts.append((len(true & found), len(found), len(true)))
    return Tagged(*np.array(counts, dtype=np.intp).reshape(-1, 3).T)


def _word_tags(words: Sequence[tuple[int, int]], tokens: Sequence[tuple[int, int]], tags: Sequence[str]) -> list[str]:
    """The tag of the first token in each word; all but `tags` are spans of characters."""
    ends = [end for _, end in tokens]
    firsts = [bisect.bisect_right(ends, start) for start, _ in words]
    return [
        tags[first] if first < len(tokens) and tokens[first][0] < end else OUTSIDE
        for first, (_, end) in zip(firsts, words, strict=True)
    ]


def entities(tags: Sequence[str]) -> Entities:
    """Type, first and last word of each entity, as conlleval has it for IOB and IOBES tags.

    `B-` and `S-` start an entity, and so does any tag of another type than the one before.
    """
    return frozenset(_entities(tags))


def _entities(tags: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    start, kind, ended = 0, "", True
    for index, tag in enumerate([*tags, OUTSIDE]):
        prefix, name = (tag[0], tag[2:]) if tag[1:2] == "-" else ("", "" if tag == OUTSIDE else tag)
        begins = prefix in ("B", "S") or name != kind or ended
        if kind and begins:
            yield kind, start, index - 1
        if begins:
            start = index
        kind, ended = name, prefix in ("E", "S")
