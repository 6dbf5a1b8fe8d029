"""What a span says of the answer: how sure it was, and, of a copied request, what it was
(see :mod:`tapchanger_serving.contract.mirror`).
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from tapchanger_serving.contract import mirror, names
from tapchanger_serving.contract.feedback import KNOWN_TEXTS
from tapchanger_serving.engines.answers import Answers

SKETCH: Final = 32
"""Numbers in the sketch of an embedding: the squared distance of two sketches is that of the embeddings within a quarter."""
_SCALE: Final = 10_000


def words(answers: Answers) -> str:
    """The answer to the first texts of one request, as JSON."""
    if names.LABEL in answers:
        labels = [label.decode(errors="replace") for label in answers[names.LABEL][: mirror.MOST_ROWS, 0]]
        return json.dumps({mirror.LABELS: labels}, ensure_ascii=False)
    if names.ENTITIES in answers:
        return json.dumps({mirror.DIGESTS: [_digest(row) for row in answers[names.ENTITIES][: mirror.MOST_ROWS, 0]]})
    sketches = sketch(answers[names.EMBEDDING][: mirror.MOST_ROWS])
    return json.dumps({mirror.SKETCHES: sketches.tolist()}, separators=(",", ":"))


def confidence(answers: Answers) -> float | None:
    """How sure a classifier was, on average over a request's texts (0 to 1), to three digits; None of other tasks."""
    scores = answers.get(names.SCORE)
    return None if scores is None or not scores.size else round(float(scores.mean()), 3)


def labels(answers: Answers) -> str | None:
    """Label and score of the first texts of one request, to four digits, as JSON; None of other tasks."""
    if names.SCORE not in answers or not len(answers.get(names.LABEL, ())):
        return None
    found = [label.decode(errors="replace") for label in answers[names.LABEL][:KNOWN_TEXTS, 0]]
    scores = [round(float(score), 4) for score in answers[names.SCORE][:KNOWN_TEXTS].ravel()]
    return json.dumps(list(zip(found, scores, strict=True)), ensure_ascii=False, separators=(",", ":"))


def sketch(embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    """`[rows, SKETCH]` from embeddings `[rows, dim]`: projections of their directions on random signs.

    Johnson and Lindenstrauss 1984; random signs: Achlioptas 2003, "Database-friendly random projections", theorem 1.1.
    """
    lengths = np.maximum(np.linalg.norm(embeddings, axis=-1, keepdims=True), np.float32(1e-12))
    projected = (embeddings / lengths) @ _signs(embeddings.shape[-1])
    sketches: npt.NDArray[np.int32] = np.rint(projected * np.float32(_SCALE / np.sqrt(SKETCH))).astype(np.int32)
    return sketches


@lru_cache(maxsize=4)
def _signs(dimensions: int) -> npt.NDArray[np.float32]:
    """`[dimensions, SKETCH]` of 1 and -1, the same in every process: the bits of SHAKE-128 over the size."""
    stream = hashlib.shake_128(f"tapchanger {dimensions}".encode()).digest(dimensions * SKETCH // 8)
    bits = np.unpackbits(np.frombuffer(stream, dtype=np.uint8)).reshape(dimensions, SKETCH)
    signs: npt.NDArray[np.float32] = bits.astype(np.float32) * 2 - 1
    return signs


def _digest(entities: bytes) -> str:
    """Of where which entities are, not of how sure the model was of them."""
    found = [(one["entity"], one["start"], one["end"]) for one in json.loads(entities)]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]
