"""The texts that a student learns from: never those that judge it, each once, and some of them held out."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tapchanger_serving.build.dataset import Rows, read_texts
from tapchanger_serving.build.failures import DATASET_FIELD, DISTILL_FIELD, StepError
from tapchanger_serving.build.gates.duplicates import Seen, fingerprint, plain
from tapchanger_serving.build.places import Places
from tapchanger_serving.contract.distill import Distill
from tapchanger_serving.contract.gates import TextSource
from tapchanger_serving.contract.messages import BuildRequest

MAX_TEXTS = 50_000
MOST_HELD_OUT = 1000
LEAST = 20
_ALL = 2_000_000
_DATA_FIELD = f"{DISTILL_FIELD}.dataset"

Text = tuple[str, ...]
"""A text, or a text and its pair."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """The texts that are left, and which of them train and which are held out; how many were read and left out."""

    texts: tuple[Text, ...]
    training: tuple[int, ...]
    held_out: tuple[int, ...]
    read: int
    in_evaluation: int
    duplicates: int

    @property
    def rows(self) -> Rows:
        """As rows to tokenize."""
        paired = len(self.texts[0]) > 1
        return Rows(tuple(text[0] for text in self.texts), tuple(text[1] for text in self.texts) if paired else None)


def read_corpus(request: BuildRequest, wanted: Distill, places: Places, judged: Rows) -> Corpus:
    """Reads the data of the request's distillation. `judged` are the texts that engines are compared on.

    Raises `DatasetInvalid` for broken data, and where hardly any texts are left.
    """
    path = places.distill_data()
    if path is None:
        raise FileNotFoundError("distill.*")
    apart = request.task == "feature-extraction"
    found = units(read_texts(path, wanted.dataset, MAX_TEXTS, _DATA_FIELD), apart=apart)
    corpus = select(found, units(judged, apart=apart), _evaluation(request, places, apart=apart), wanted.seed)
    if len(corpus.texts) < LEAST:
        raise StepError(
            "DatasetInvalid",
            f"{wanted.dataset.uri}: {len(corpus.texts)} of {corpus.read} texts are left to learn from, and {LEAST} are needed; "
            f"{corpus.in_evaluation} are evaluation data too, {corpus.duplicates} occur more than once",
            field=_DATA_FIELD,
            remedy="give texts of their own, some thousands of them, like those that will be served",
        )
    return corpus


def units(rows: Rows, *, apart: bool) -> list[Text]:
    """What the model takes at a time: a text with its pair, or with `apart` each of both, as embeddings need it."""
    if rows.pairs is None:
        return [(text,) for text in rows.texts]
    if apart:
        return [(text,) for text in (*rows.texts, *rows.pairs)]
    return list(zip(rows.texts, rows.pairs, strict=True))


def select(found: Sequence[Text], judged: Iterable[Text], evaluation: Iterable[Text], seed: int) -> Corpus:
    """Leaves out what is nearly one of the `judged` texts or the same as one of the `evaluation` data; then what occurs twice.

    Texts are the same without regard to case, punctuation and spacing. A tenth of the rest is held out.
    """
    near, same = Seen(fingerprint(_joined(text)) for text in judged), {plain(_joined(text)) for text in evaluation}
    left, known, in_evaluation, duplicates = [], set[str](), 0, 0
    for text in found:
        words = plain(_joined(text))
        if words in same or near.match(fingerprint(_joined(text))) is not None:
            in_evaluation += 1
        elif words in known:
            duplicates += 1
        else:
            known.add(words)
            left.append(text)
    held_out = sorted(random.Random(seed).sample(range(len(left)), min(MOST_HELD_OUT, len(left) // 10)))  # noqa: S311
    training = sorted(set(range(len(left))) - set(held_out))
    return Corpus(tuple(left), tuple(training), tuple(held_out), len(found), in_evaluation, duplicates)


def _evaluation(request: BuildRequest, places: Places, *, apart: bool) -> list[Text]:
    """Every row of the evaluation data, of which a build may judge only a part."""
    path, gate = places.dataset(), request.gates.evaluation
    if path is None or gate is None:
        return []
    source = TextSource(uri=gate.dataset.uri, text=gate.dataset.text, text_pair=gate.dataset.text_pair)
    return units(read_texts(path, source, _ALL, DATASET_FIELD), apart=apart)


def _joined(text: Text) -> str:
    return "\n".join(text)
