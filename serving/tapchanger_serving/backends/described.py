"""What a span says of a text: numbers of what it is like, never the text (see :mod:`tapchanger_serving.contract.drift`).

Only spans that are sampled are described, one text of each request. A text that was asked within the last minute is told as a
repetition: a client that asks the same thing over and over says nothing new of what people write.
"""

from __future__ import annotations

import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from tokenizers import Encoding

from tapchanger_serving.contract import drift, names
from tapchanger_serving.engines.answers import Answers
from tapchanger_serving.engines.features import Describer, Known
from tapchanger_serving.engines.text import Tokenizer

REPEAT_SECONDS: Final = 60.0
ANNOUNCED_EVERY: Final = 60.0
"""Seconds between two spans that carry the reference: an observer that lost it knows it again within a minute."""
_REMEMBERED: Final = 4096
LONGEST_LABEL: Final = 100


class Recent:
    """Digests of the texts of the last minute, at most :data:`_REMEMBERED`. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: OrderedDict[int, float] = OrderedDict()

    def again(self, ids: Sequence[int]) -> bool:
        """Whether a text of the same tokens, in whatever order and number, was asked in the last minute."""
        digest, now = zlib.crc32(np.unique(np.array(ids, dtype=np.int64)).tobytes()), self._clock()
        before = self._seen.get(digest)
        if before is not None and now - before < REPEAT_SECONDS:
            return True
        self._seen[digest] = now
        self._seen.move_to_end(digest)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return False


class TextsTold:
    """Makes the attributes of one model's spans."""

    def __init__(self, describer: Describer, known: Known | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._describer = describer
        self._reference = known.reference.dumps() if known else None
        self._clock = clock
        self._announced = -ANNOUNCED_EVERY
        self._recent = Recent(clock)

    @classmethod
    def of(cls, tokenizer: Tokenizer, folder: Path) -> TextsTold:
        """For the artifact in `folder`."""
        known = Known.read(folder)
        vocabulary = known.vocabulary if known else None
        return cls(Describer.of(tokenizer, vocabulary), known)

    def attributes(
        self, texts: Sequence[str], encodings: Sequence[Encoding], answers: Answers, number: int
    ) -> dict[str, str | float]:
        """Of one of a request's texts, which `number`, a random one, chooses."""
        if not texts:
            return {}
        row = number % len(texts)
        told = self._announcement()
        if self._recent.again(encodings[row].ids):
            return {**told, names.ATTR_DRIFT: f"{drift.VERSION};{drift.REPEAT}"}
        found = self._describer.describe(texts[row], encodings[row], answers, row)
        told |= {names.ATTR_OOV: found.oov, names.ATTR_DRIFT: drift.encode(found.bins)}
        return told if found.label is None else {**told, names.ATTR_LABEL: found.label[:LONGEST_LABEL]}

    def _announcement(self) -> dict[str, str | float]:
        now = self._clock()
        if self._reference is None or now - self._announced < ANNOUNCED_EVERY:
            return {}
        self._announced = now
        return {names.ATTR_DRIFT_REFERENCE: self._reference}
