"""Answers a batch of requests such that one request can fail without the others. Knows nothing of Triton."""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding

from tapchanger_serving.engines.answers import Answers


class Model(Protocol):
    """What is asked of :class:`tapchanger_serving.engines.answers.TextModel`."""

    def tokenize(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Encoding]:
        """One encoding per text."""
        ...

    def answer(self, texts: Sequence[str], encodings: Sequence[Encoding]) -> Answers:
        """Output tensors, one row per text."""
        ...


@dataclass(frozen=True)
class Texts:
    """The texts of one request, and their pairs where it has some."""

    texts: tuple[str, ...]
    pairs: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Refusal:
    """Why a request gets no answer; `client` when the client must change it. The message holds none of its text."""

    message: str
    client: bool


@dataclass(frozen=True)
class Answered:
    """What became of a request; `tokens` is how many its texts had in sum (cut ones as cut), 0 where that isn't known.

    `encodings` are its texts' tokens where it was answered.
    """

    outcome: Answers | Refusal
    tokens: int = 0
    encodings: Sequence[Encoding] = ()


def read_texts(tensor: npt.NDArray[np.object_], name: str) -> tuple[str, ...] | Refusal:
    """Texts from a BYTES tensor `[rows, 1]`."""
    texts: list[str] = []
    for row, item in enumerate(tensor.reshape(-1)):
        try:
            texts.append(item.decode() if isinstance(item, bytes) else str(item))
        except UnicodeDecodeError as error:
            return Refusal(
                f"{name}: row {row} is not UTF-8 (byte {error.start}); send text encoded as UTF-8", client=True
            )
    return tuple(texts)


def answer_each(model: Model, requests: Sequence[Texts], failed: Callable[[BaseException], None]) -> list[Answered]:
    """One answer or refusal per request, in order.

    All texts are tokenized and answered together. When that fails, each request is tried alone, so that only those
    fail which must; `failed` hears of every failure that refuses a request.
    """
    if not requests:
        return []
    try:
        return list(_together(model, requests))
    except Exception as error:  # noqa: BLE001 - whatever one text provokes must not reach the other requests
        if len(requests) == 1:
            failed(error)
            message = f"the model could not answer this text ({type(error).__name__})"
            return [Answered(Refusal(message, client=False))]
    return [answer for request in requests for answer in answer_each(model, (request,), failed)]


def _together(model: Model, requests: Sequence[Texts]) -> list[Answered]:
    texts = [text for request in requests for text in request.texts]
    bounds = list(itertools.accumulate((len(request.texts) for request in requests), initial=0))
    encodings = _tokenize(model, requests)
    answers = model.answer(texts, encodings)
    return [
        Answered(
            {name: rows[start:end] for name, rows in answers.items()},
            sum(map(len, encodings[start:end])),
            encodings[start:end],
        )
        for start, end in itertools.pairwise(bounds)
    ]


def _tokenize(model: Model, requests: Sequence[Texts]) -> list[Encoding]:
    """Encodings in the order of the requests; texts with a pair take a call of their own."""
    single = [text for request in requests if request.pairs is None for text in request.texts]
    if len(single) == sum(len(request.texts) for request in requests):
        return model.tokenize(single)
    paired = [request for request in requests if request.pairs is not None]
    alone = iter(model.tokenize(single) if single else [])
    together = iter(
        model.tokenize(
            [text for request in paired for text in request.texts],
            [pair for request in paired for pair in request.pairs or ()],
        )
    )
    return [next(alone if request.pairs is None else together) for request in requests for _ in request.texts]


def where(error: BaseException) -> str:
    """Type and place of an error, without its message, which could quote a user's text."""
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames[-3:]))
    return f"{type(error).__name__} in {places}"
