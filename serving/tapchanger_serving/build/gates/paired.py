"""Pairs of texts with a degree of likeness as a sample: embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from tapchanger_serving.build.answers import Floats, cosine
from tapchanger_serving.build.gates import metrics
from tapchanger_serving.build.gates.resampling import Doubles, Statistic
from tapchanger_serving.build.gates.results import UnanswerableError
from tapchanger_serving.build.gates.samples import Mask, pick
from tapchanger_serving.contract.gates import MetricName


@dataclass(frozen=True, slots=True)
class Paired:
    """How alike two texts are: the cosine of their embeddings and the data's figure."""

    cosines: Doubles
    likeness: Doubles

    def __len__(self) -> int:
        return len(self.cosines)

    def take(self, rows: Mask) -> Self:
        """Some of the rows."""
        return type(self)(self.cosines[rows], self.likeness[rows])

    def wrong(self) -> Mask:
        """No pair is right or wrong for itself."""
        return np.zeros(len(self), dtype=bool)

    def statistic(self, metric: MetricName) -> Statistic:
        """`spearman`: the rank correlation of cosine and label."""
        return pick(metric, {"spearman": lambda: metrics.spearman(self.cosines, self.likeness)}, "feature-extraction")


def paired(labels: Sequence[str], embeddings: Floats) -> Paired:
    """`embeddings` are those of all first texts, then of all second ones: `[2 × rows, dim]`.

    Raises :class:`UnanswerableError` without pairs and for a label that is no number.
    """
    rows = len(labels)
    if len(embeddings) != 2 * rows:
        raise UnanswerableError("metrics of embeddings need pairs of texts; name the column of the second: textPair")
    try:
        likeness = np.array([float(label) for label in labels])
    except ValueError as error:
        raise UnanswerableError(f"labels of pairs are numbers, the higher the more alike: {error}") from error
    return Paired(cosine(embeddings[:rows], embeddings[rows:]), likeness)
