"""Classified texts as samples: one label per text, or several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from tapchanger_serving.build.answers import Floats, decided
from tapchanger_serving.build.exported import Exported
from tapchanger_serving.build.gates import metrics
from tapchanger_serving.build.gates.metrics import Bools, Ints
from tapchanger_serving.build.gates.resampling import Doubles, Statistic
from tapchanger_serving.build.gates.results import UnanswerableError
from tapchanger_serving.build.gates.samples import Mask, Metrics, pick
from tapchanger_serving.contract.gates import LABEL_SEPARATOR, MetricName

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Labelled:
    """One label per text: its id `[rows]`, and scores `[rows, labels]`."""

    truth: Ints
    scores: Floats

    @classmethod
    def of(cls, truth: Ints, scores: Floats) -> Self:
        """A single score is the chance of label 1."""
        return cls(truth, np.concatenate([1 - scores, scores], axis=1) if scores.shape[1] == 1 else scores)

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, rows: Mask) -> Self:
        """Some of the rows."""
        return type(self)(self.truth[rows], self.scores[rows])

    def scored(self, scores: Floats) -> Self:
        """The same truth beside other scores."""
        return type(self).of(self.truth, scores)

    @property
    def predicted(self) -> Ints:
        """The label decided for each text."""
        return decided(self.scores)

    @property
    def confidence(self) -> Doubles:
        """The score of the label decided for each text."""
        chosen: Doubles = self.scores.max(axis=1).astype(np.float64)
        return chosen

    def wrong(self) -> Mask:
        """Texts with another label than the true one."""
        wrong: Mask = self.predicted != self.truth
        return wrong

    def statistic(self, metric: MetricName) -> Statistic:
        """The metric as a function of the rows' weights."""
        labels = self.scores.shape[1]
        truth, predicted = metrics.one_hot(self.truth, labels), metrics.one_hot(self.predicted, labels)
        # With two labels, the second is the positive one, and the other's curve is the same one.
        curves = slice(1, None) if labels == 2 else slice(None)
        known: Metrics = {
            "accuracy": lambda: metrics.mean_of(~self.wrong()),
            "f1": lambda: metrics.f1_macro(truth, predicted),
            "auc": lambda: metrics.auc(truth[:, curves], self.scores[:, curves]),
            "mcc": lambda: metrics.mcc(truth, predicted),
            "brier": lambda: metrics.brier(truth, self.scores),
            "ece": lambda: metrics.ece(self.confidence, ~self.wrong()),
        }
        return pick(metric, known, "texts with one label each")


@dataclass(frozen=True, slots=True)
class MultiLabelled:
    """Several labels per text: which it has and the scores, both `[rows, labels]`. A label is given above one half."""

    truth: Bools
    scores: Floats

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, rows: Mask) -> Self:
        """Some of the rows."""
        return type(self)(self.truth[rows], self.scores[rows])

    def scored(self, scores: Floats) -> Self:
        """The same truth beside other scores."""
        return type(self)(self.truth, scores)

    def wrong(self) -> Mask:
        """Texts of which any label is decided wrongly."""
        wrong: Mask = ((self.scores > 0.5) != self.truth).any(axis=1)
        return wrong

    def statistic(self, metric: MetricName) -> Statistic:
        """The metric as a function of the rows' weights; accuracy is that of all labels together."""
        predicted = self.scores > 0.5
        known: Metrics = {
            "accuracy": lambda: metrics.mean_of(~self.wrong()),
            "f1": lambda: metrics.f1_macro(self.truth, predicted),
            "f1_micro": lambda: metrics.f1_micro(self.truth, predicted),
            "auc": lambda: metrics.auc(self.truth, self.scores),
        }
        return pick(metric, known, "texts with several labels each")


def classified(labels: tuple[str, ...], scores: Floats, model: Exported) -> Labelled | MultiLabelled:
    """The data's labels, by name or by id, beside the scores `[rows, labels]`.

    Raises :class:`UnanswerableError` for a label that the model does not know.
    """
    ids = {str(index): index for index in range(max(len(model.labels), 2))}
    ids |= {label: index for index, label in enumerate(model.labels)}
    if model.multi_label:
        given = [[part.strip() for part in label.split(LABEL_SEPARATOR) if part.strip()] for label in labels]
        _require_known({label for row in given for label in row}, ids, model)
        truth = np.zeros(scores.shape, dtype=bool)
        for row, parts in zip(truth, given, strict=True):
            row[[ids[part] for part in parts]] = True
        return MultiLabelled(truth, scores)
    _require_known(set(labels), ids, model)
    return Labelled.of(np.array([ids[label] for label in labels], dtype=np.intp), scores)


def _require_known(found: set[str], ids: dict[str, int], model: Exported) -> None:
    if unknown := sorted(found - set(ids)):
        shown = ", ".join(repr(label) for label in unknown[:_SHOWN])
        raise UnanswerableError(f"the data has {shown}; the model knows {', '.join(model.labels[:10])} or ids from 0")
