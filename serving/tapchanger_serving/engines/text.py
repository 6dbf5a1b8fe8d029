"""Texts to tensors: the Rust tokenizer, truncation, padding to the batch, and batches of like length.

The builder measures with this code and the server answers with it, so that what was measured is what serves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding
from tokenizers import Tokenizer as RustTokenizer

from tapchanger_serving.contract.names import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS

TOKENIZER_FILE = "tokenizer.json"

Tensors = dict[str, npt.NDArray[np.int64]]

_PAD_TOKENS = ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>", "</s>")
_WORD_BEGINS = ("Ġ", "▁")
_UNKNOWN_TOKENS = ("[UNK]", "<unk>", "<|unk|>")


class Tokenizer:
    """The tokenizer of one model, truncating to `max_tokens` (special tokens counted) and padding on the right.

    `inputs` are the tensors that the engine takes, of `input_ids`, `attention_mask` and `token_type_ids`.
    Raises ValueError when an input is none of these, and whatever `tokenizers` raises for a broken file.
    """

    def __init__(self, file: Path, inputs: Sequence[str], max_tokens: int) -> None:
        if unknown := set(inputs) - {INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS}:
            raise ValueError(f"inputs: the engine takes {sorted(unknown)}, which no tokenizer gives")
        self.inputs = tuple(inputs)
        self._rust = RustTokenizer.from_file(str(file))
        padding = self._rust.padding or {}
        self._pad_type = int(padding.get("pad_type_id", 0))
        self._pad = int(padding["pad_id"]) if padding else self._find_pad()
        self._rust.no_padding()
        self._rust.enable_truncation(max_length=max_tokens)

    def _find_pad(self) -> int:
        found = (self._rust.token_to_id(token) for token in _PAD_TOKENS)
        return next((token_id for token_id in found if token_id is not None), 0)

    def largest_id(self) -> int:
        """The largest id that the tokenizer can give; -1 if it has no vocabulary."""
        return max(self._rust.get_vocab(with_added_tokens=True).values(), default=-1)

    def word_starts(self) -> npt.NDArray[np.bool_]:
        """By id, whether a token begins a word; of a vocabulary that doesn't mark words every token does.

        WordPiece marks what goes on (`##`), byte-level BPE and SentencePiece what begins (`Ġ`, `▁`).
        """
        vocabulary = self._rust.get_vocab(with_added_tokens=True)
        starts = np.ones(self.largest_id() + 1, dtype=np.bool_)
        going_on = [number for token, number in vocabulary.items() if token.startswith("##") and len(token) > 2]
        begun = [number for token, number in vocabulary.items() if token[:1] in _WORD_BEGINS]
        if going_on:
            starts[going_on] = False
        elif begun:
            starts[:] = False
            starts[begun] = True
        return starts

    def unknown_id(self) -> int | None:
        """The id that stands for what the vocabulary does not have; None where everything can be spelled."""
        found = (self._rust.token_to_id(token) for token in _UNKNOWN_TOKENS)
        return next((token_id for token_id in found if token_id is not None), None)

    def tokenize(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, offsets: bool = True
    ) -> list[Encoding]:
        """One encoding per text (and its pair). `offsets=False` is faster and leaves the character offsets out."""
        batch = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        encode = self._rust.encode_batch if offsets else self._rust.encode_batch_fast
        encodings: list[Encoding] = encode(batch)
        return encodings

    def pad(self, encodings: Sequence[Encoding]) -> Tensors:
        """INT64 tensors `[batch, longest]`. A text without any token becomes one padding token that is attended to."""
        lengths = np.array([max(len(encoding), 1) for encoding in encodings], dtype=np.int64)
        shape = (len(encodings), int(lengths.max(initial=1)))
        filled = np.arange(shape[1]) < lengths[:, None]
        tensors: Tensors = {}
        for name in self.inputs:
            if name == ATTENTION_MASK:
                tensors[name] = filled.astype(np.int64)
                continue
            tensor = np.full(shape, self._pad if name == INPUT_IDS else self._pad_type, dtype=np.int64)
            for row, encoding in zip(tensor, encodings, strict=True):
                row[: len(encoding)] = encoding.ids if name == INPUT_IDS else encoding.type_ids
            tensors[name] = tensor
        return tensors

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Tensors:
        """Tokenizes and pads one batch: INT64 tensors `[batch, longest]` by the engine's input names."""
        return self.pad(self.tokenize(texts, pairs, offsets=False))


def like_length(lengths: Sequence[int], size: int) -> Iterator[npt.NDArray[np.intp]]:
    """Indices in chunks of at most `size`, longest first, so that little of each chunk is padding."""
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    for start in range(0, len(order), size):
        yield order[start : start + size]
