"""Bounds on metrics of labelled data: on all rows, on slices, and on the gap between slices.

What can't be evaluated fails, and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tapchanger_serving.build.answers import Floats
from tapchanger_serving.build.dataset import Rows
from tapchanger_serving.build.exported import Exported
from tapchanger_serving.build.gates.classified import classified
from tapchanger_serving.build.gates.metrics import Ints
from tapchanger_serving.build.gates.paired import paired
from tapchanger_serving.build.gates.resampling import Statistic, bootstrap, draw, figure, percentiles, wilson
from tapchanger_serving.build.gates.results import (
    Evidence,
    UnanswerableError,
    at_least,
    at_most,
    reported,
    unanswered,
)
from tapchanger_serving.build.gates.samples import Mask, Sample
from tapchanger_serving.build.gates.tagged import tagged
from tapchanger_serving.contract.evidence import Interval
from tapchanger_serving.contract.gates import MIN_SLICE_ROWS, EvaluationGate, MetricGate
from tapchanger_serving.contract.messages import GateResult
from tapchanger_serving.engines.text import Tokenizer

EXAMPLES = 5
LOWER_IS_BETTER = {"ece", "brier"}
OF_CONFIDENCE = {"ece", "brier"}
"""Metrics that a temperature changes."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Evaluation rows with their truth, an engine's answers and PyTorch's; `numbers` are those of the data's rows."""

    sample: Sample
    reference: Sample
    numbers: Ints
    slices: Mapping[str, npt.NDArray[np.str_]]

    def take(self, rows: Mask) -> Judged:
        """Some of the rows."""
        slices = {column: values[rows] for column, values in self.slices.items()}
        return Judged(self.sample.take(rows), self.reference.take(rows), self.numbers[rows], slices)

    def statistic(self, metric: MetricGate) -> Statistic:
        """The metric of the engine."""
        return self.sample.statistic(metric.name)


@dataclass(frozen=True, slots=True)
class Examination:
    """Labelled rows for one model."""

    model: Exported
    rows: Rows
    tokenizer: Tokenizer | None = None

    def sample(self, answers: Floats) -> Sample:
        """The rows beside one set of answers. Raises :class:`UnanswerableError`."""
        labels = self.rows.labels
        if not labels:
            raise UnanswerableError("the data has no labels")
        match self.model.task:
            case "text-classification":
                return classified(labels, answers, self.model)
            case "token-classification" if self.tokenizer is not None:
                return tagged(self.rows.texts, labels, answers, self.model, self.tokenizer)
            case "feature-extraction":
                return paired(labels, answers)
            case other:
                raise UnanswerableError(f"this release has no metrics for {other}; remove the metrics")

    def judged(self, answers: Floats, reference: Floats) -> Judged:
        """The rows beside the answers of an engine and of PyTorch. Raises :class:`UnanswerableError`."""
        slices = {column: np.array(values) for column, values in self.rows.slices.items()}
        return Judged(self.sample(answers), self.sample(reference), self.rows.numbered(), slices)


def evaluation(
    gate: EvaluationGate, everything: Callable[[], Judged], calibrated: Judged | None = None
) -> list[GateResult]:
    """One result per bound and slice, worst slices first.

    `calibrated` are the rows that the temperature was not fitted on, with the scores that it gives: metrics of confidence
    are judged on these.
    """
    try:
        judged = everything()
    except UnanswerableError as obstacle:
        return [unanswered(_name(metric), _bounds(metric), str(obstacle)) for metric in gate.metrics]
    return [
        result
        for metric in gate.metrics
        for result in _judge(metric, calibrated if calibrated and metric.name in OF_CONFIDENCE else judged)
    ]


def _judge(metric: MetricGate, judged: Judged) -> list[GateResult]:
    try:
        if metric.slice is None:
            return list(_bounded(metric, judged, metric.name))
        return list(_sliced(metric, judged))
    except UnanswerableError as obstacle:
        return [unanswered(_name(metric), _bounds(metric), str(obstacle))]


def _sliced(metric: MetricGate, judged: Judged) -> Iterator[GateResult]:
    parts = _slices(metric, judged)
    sign = -1 if metric.name in LOWER_IS_BETTER else 1
    values = {label: figure(part.statistic(metric), len(part.sample)) for label, part in parts.items()}
    order = sorted(parts, key=lambda label: (not np.isnan(values[label]), sign * values[label]))
    for rank, label in enumerate(order):
        note = f"the worst of {len(order)} slices" if rank == 0 and len(order) > 1 else None
        yield from _bounded(metric, parts[label], f"{metric.name}[{label}]", note)
    if metric.max_gap is not None:
        for column in judged.slices:
            mine = [label for label in order if label.startswith(f"{column}=")]
            if mine:
                yield _gap(metric, column, [(label, parts[label], values[label]) for label in (mine[0], mine[-1])])


def _slices(metric: MetricGate, judged: Judged) -> dict[str, Judged]:
    """Slices of enough rows: all of them for "*", those of one column for its name, one for `column=value`."""
    rows = metric.min_rows or MIN_SLICE_ROWS
    found = {}
    for column, values in judged.slices.items():
        for value in np.unique(values):
            label, mask = f"{column}={value}", values == value
            if metric.slice in ("*", column, label) and np.count_nonzero(mask) >= rows:
                found[label] = judged.take(mask)
    if not found:
        columns = ", ".join(judged.slices) or "none"
        raise UnanswerableError(f"no slice {metric.slice!r} with {rows} rows; slice columns are {columns}")
    return found


def _gap(metric: MetricGate, column: str, ends: list[tuple[str, Judged, float]]) -> GateResult:
    """The difference of the best and the worst slice; its interval is that of these two slices' difference."""
    (worst, low, at_worst), (best, high, at_best) = ends
    name = f"{metric.name} gap[{column}]"
    if worst == best:
        raise UnanswerableError(f"column {column} has one slice with enough rows, {worst}; a gap needs two")
    draws = [part.statistic(metric)(draw(len(part.sample), stream)) for stream, part in enumerate((low, high))]
    sign = -1 if metric.name in LOWER_IS_BETTER else 1
    found = Evidence(
        value=_known(sign * (at_best - at_worst)),
        rows=len(low.sample) + len(high.sample),
        interval=percentiles(sign * (draws[1] - draws[0])),
        examples=_examples(low),
        detail=f"worst {worst} {at_worst:.4f} of {len(low.sample)} rows, best {best} {at_best:.4f}",
    )
    return at_most(name, found, metric.max_gap or 0.0, confident=metric.confident)


def _bounded(metric: MetricGate, judged: Judged, name: str, note: str | None = None) -> Iterator[GateResult]:
    statistic, rows = judged.statistic(metric), len(judged.sample)
    value = figure(statistic, rows)
    found = Evidence(
        value=_known(value),
        rows=rows,
        interval=_interval(metric, statistic, value, rows),
        examples=_examples(judged),
        detail=note if not np.isnan(value) else "not defined on these rows: they are all of one kind",
    )
    if metric.min is not None:
        yield at_least(name, found, metric.min, confident=metric.confident)
    if metric.max is not None:
        yield at_most(name, found, metric.max, confident=metric.confident)
    if metric.max_drop is not None:
        yield at_most(f"{name} drop", _drop(metric, judged, found), metric.max_drop, confident=metric.confident)
    if metric.min is None and metric.max is None and metric.max_drop is None and metric.max_gap is None:
        yield reported(name, found)


def _drop(metric: MetricGate, judged: Judged, found: Evidence) -> Evidence:
    """How much worse than PyTorch on the same rows; the interval is paired."""
    ours, theirs = judged.statistic(metric), judged.reference.statistic(metric.name)
    sign = -1 if metric.name in LOWER_IS_BETTER else 1
    before = figure(theirs, found.rows)
    return replace(
        found,
        value=_known(sign * (before - figure(ours, found.rows))),
        interval=bootstrap(lambda weights: sign * (theirs(weights) - ours(weights)), found.rows),
        detail=f"PyTorch has {before:.4f}",
    )


def _interval(metric: MetricGate, statistic: Statistic, value: float, rows: int) -> Interval | None:
    return wilson(value, rows) if metric.name == "accuracy" else bootstrap(statistic, rows)


def _examples(judged: Judged) -> tuple[int, ...]:
    return tuple(int(number) for number in judged.numbers[judged.sample.wrong()][:EXAMPLES])


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _name(metric: MetricGate) -> str:
    return metric.name if metric.slice is None else f"{metric.name}[{metric.slice}]"


def _bounds(metric: MetricGate) -> str:
    bounds = (
        ("≥", metric.min, ""),
        ("≤", metric.max, ""),
        ("≤", metric.max_drop, " drop"),
        ("≤", metric.max_gap, " gap"),
    )
    return ", ".join(f"{sign} {bound:g}{unit}" for sign, bound, unit in bounds if bound is not None) or "none"
