"""The texts on which engines are compared with PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tapchanger_serving.build.dataset import MAX_ROWS, Rows, evenly, read_dataset, read_texts
from tapchanger_serving.build.failures import CALIBRATION_FIELD
from tapchanger_serving.engines.text import Tensors, Tokenizer, like_length

if TYPE_CHECKING:
    from tokenizers import Encoding

    from tapchanger_serving.contract.messages import BuildRequest

COMPARED = 1000
_PROBES = "probes.txt"
_LADDER = 48
_CHUNK = 16


def load_texts(request: BuildRequest, dataset: Path | None, tokenizer: Tokenizer, max_tokens: int) -> Rows:
    """The evaluation data if there is any, else the built-in probes, lengthened so that all lengths occur.

    Only text classification evaluates labels, so other tasks take no more rows than they compare.
    """
    if dataset is not None and request.gates.evaluation is not None:
        limit = MAX_ROWS if request.task == "text-classification" else COMPARED
        return read_dataset(dataset, request.gates.evaluation.dataset, limit)
    sentences = probe_sentences()
    return Rows(texts=(*sentences, *lengthened(sentences, lambda text: _tokens(tokenizer, text), max_tokens)))


def load_calibration(request: BuildRequest, data: Path | None) -> Rows | None:
    """The calibration texts, if the request names any."""
    if data is None or request.calibration_data is None:
        return None
    return read_texts(data, request.calibration_data, MAX_ROWS, CALIBRATION_FIELD)


def probe_sentences() -> tuple[str, ...]:
    """The built-in sentences, in the file's order."""
    text = resources.files(__package__).joinpath(_PROBES).read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line.strip())


def lengthened(sentences: Sequence[str], tokens: Callable[[str], int], max_tokens: int) -> list[str]:
    """Texts made of neighbouring sentences whose token counts climb evenly to `max_tokens`."""
    sizes = [tokens(sentence) for sentence in sentences]
    texts = []
    for rung in range(1, _LADDER + 1):
        goal, start, total = max_tokens * rung / _LADDER, rung * len(sentences) // _LADDER, 0
        parts: list[str] = []
        while total < goal:
            index = (start + len(parts)) % len(sentences)
            parts.append(sentences[index])
            total += max(sizes[index], 1)
        texts.append(" ".join(parts))
    return texts


def compared(count: int) -> npt.NDArray[np.intp]:
    """Which of `count` texts take part in the parity gate: at most :data:`COMPARED`, evenly spread."""
    return np.array(evenly(count, COMPARED), dtype=np.intp)


@dataclass(frozen=True)
class Encoded:
    """Texts as the server would feed them: tokenized once, in batches of like length."""

    tokenizer: Tokenizer
    encodings: tuple[Encoding, ...]
    chunk: int

    @classmethod
    def of(cls, tokenizer: Tokenizer, rows: Rows, max_batch_size: int, *, apart: bool = False) -> Encoded:
        """Tokenizes all rows. `apart` makes a text of its own of each pair, after all first texts, as embeddings need it."""
        if apart:
            encodings = tokenizer.tokenize((*rows.texts, *(rows.pairs or ())), offsets=False)
        else:
            encodings = tokenizer.tokenize(rows.texts, rows.pairs, offsets=False)
        return cls(tokenizer, tuple(encodings), min(_CHUNK, max_batch_size))

    def take(self, rows: npt.NDArray[np.intp]) -> Encoded:
        """Some of the texts."""
        return Encoded(self.tokenizer, tuple(self.encodings[row] for row in rows), self.chunk)

    def __len__(self) -> int:
        return len(self.encodings)

    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each text, at least 1."""
        return np.array([max(len(encoding), 1) for encoding in self.encodings], dtype=np.int64)

    def batches(self) -> Iterator[tuple[npt.NDArray[np.intp], Tensors]]:
        """Row numbers and tensors of each batch, longest first."""
        for rows in like_length([len(encoding) for encoding in self.encodings], self.chunk):
            yield rows, self.tokenizer.pad([self.encodings[row] for row in rows])


def _tokens(tokenizer: Tokenizer, text: str) -> int:
    return len(tokenizer.tokenize([text], offsets=False)[0])
