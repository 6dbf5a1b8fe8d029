"""Gates: each bound of the request against the figure found. What can't be evaluated fails, and says why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tapchanger_serving.build.answers import Fidelity, Floats, decided
from tapchanger_serving.build.dataset import Rows
from tapchanger_serving.build.exported import Exported
from tapchanger_serving.build.metrics import LOWER_IS_BETTER, METRICS, Ints
from tapchanger_serving.contract.messages import EvaluationGate, GateResult, MetricGate, ParityGate

MIN_SLICE_ROWS = 30
_SHOWN = 3

Mask = npt.NDArray[np.bool_]


def parity(gate: ParityGate, fidelity: Fidelity) -> GateResult:
    """Label agreement of classifiers, mean cosine of embeddings."""
    if fidelity.cosine is not None:
        detail = None if fidelity.worst_cosine is None else f"worst text {fidelity.worst_cosine:.5f}"
        return _at_least("parity cosine", fidelity.cosine, gate.min_cosine, detail)
    return _at_least("parity agreement", fidelity.agreement, gate.min_agreement, None)


@dataclass(frozen=True, slots=True)
class Judged:
    """True and predicted labels of the evaluation rows, for an engine and for the reference."""

    truth: Ints
    scores: Floats
    reference: Floats
    slices: Mapping[str, npt.NDArray[np.str_]]


def evaluation(
    gate: EvaluationGate, model: Exported, rows: Rows, scores: Floats, reference: Floats
) -> list[GateResult]:
    """One result per bound and slice.

    `scores` and `reference` are `[rows, labels]`, of the engine and of PyTorch.
    """
    obstacle = _obstacle(model)
    truth, unknown = _truth(rows, model) if obstacle is None else (np.empty(0, dtype=np.intp), None)
    obstacle = obstacle or unknown
    if obstacle is not None:
        return [
            GateResult(name=_name(metric), bound=_bounds(metric), passed=False, detail=obstacle)
            for metric in gate.metrics
        ]
    slices = {column: np.array(values) for column, values in rows.slices.items()}
    judged = Judged(truth, scores, reference, slices)
    return [result for metric in gate.metrics for result in _judge(metric, judged)]


def _obstacle(model: Exported) -> str | None:
    if model.task != "text-classification":
        return f"metrics of labelled texts need task text-classification, not {model.task}; remove the metrics"
    if model.activation == "sigmoid" and model.dimensions > 1:
        return (
            "the model gives several labels per text, and the data has one column of single labels; remove the metrics"
        )
    return None


def _truth(rows: Rows, model: Exported) -> tuple[Ints, str | None]:
    """Label ids of the rows; labels are written by name or by id."""
    ids = {str(index): index for index in range(max(len(model.labels), 2))}
    ids |= {label: index for index, label in enumerate(model.labels)}
    labels = rows.labels or ()
    unknown = sorted({label for label in labels if label not in ids})
    if unknown or not labels:
        shown = ", ".join(repr(label) for label in unknown[:_SHOWN]) or "no labels"
        return np.empty(
            0, dtype=np.intp
        ), f"the data has {shown}; the model knows {', '.join(model.labels[:10])} or ids from 0"
    return np.array([ids[label] for label in labels], dtype=np.intp), None


def _judge(metric: MetricGate, judged: Judged) -> Iterator[GateResult]:
    if metric.slice is None:
        yield from _bounded(metric, judged, np.ones(len(judged.truth), dtype=bool), metric.name)
        return
    chosen = list(_slices(metric.slice, judged.slices))
    if not chosen:
        columns = ", ".join(judged.slices) or "none"
        detail = f"no slice {metric.slice!r} with {MIN_SLICE_ROWS} rows; slice columns are {columns}"
        yield GateResult(name=_name(metric), bound=_bounds(metric), passed=False, detail=detail)
    for label, mask in chosen:
        yield from _bounded(metric, judged, mask, f"{metric.name}[{label}]")


def _slices(wanted: str, columns: Mapping[str, npt.NDArray[np.str_]]) -> Iterator[tuple[str, Mask]]:
    """Slices of enough rows: all of them for "*", those of one column for its name, one for `column=value`."""
    for column, values in columns.items():
        for value in np.unique(values):
            label = f"{column}={value}"
            mask = values == value
            if wanted in ("*", column, label) and np.count_nonzero(mask) >= MIN_SLICE_ROWS:
                yield label, mask


def _bounded(metric: MetricGate, judged: Judged, mask: Mask, name: str) -> Iterator[GateResult]:
    value = _value(metric.name, judged.scores[mask], judged.truth[mask])
    detail = f"{np.count_nonzero(mask)} rows"
    if metric.min is not None:
        yield _at_least(name, value, metric.min, detail)
    if metric.max is not None:
        yield _at_most(name, value, metric.max, detail)
    if metric.max_drop is not None:
        before = _value(metric.name, judged.reference[mask], judged.truth[mask])
        drop = value - before if metric.name in LOWER_IS_BETTER else before - value
        yield _at_most(f"{name} drop", drop, metric.max_drop, f"PyTorch has {before:.4f}; {detail}")
    if metric.min is None and metric.max is None and metric.max_drop is None:
        yield GateResult(name=name, value=round(value, 6), bound="none, reported only", passed=True, detail=detail)


def _value(name: str, scores: Floats, truth: Ints) -> float:
    return METRICS[name](scores, truth, decided(scores))


def _at_least(name: str, value: float | None, bound: float, detail: str | None) -> GateResult:
    rounded = None if value is None else round(value, 6)
    return GateResult(
        name=name, value=rounded, bound=f"≥ {bound:g}", passed=value is not None and value >= bound, detail=detail
    )


def _at_most(name: str, value: float, bound: float, detail: str | None) -> GateResult:
    return GateResult(name=name, value=round(value, 6), bound=f"≤ {bound:g}", passed=value <= bound, detail=detail)


def _name(metric: MetricGate) -> str:
    return metric.name if metric.slice is None else f"{metric.name}[{metric.slice}]"


def _bounds(metric: MetricGate) -> str:
    parts = [
        f"{sign} {bound:g}{unit}"
        for sign, bound, unit in (("≥", metric.min, ""), ("≤", metric.max, ""), ("≤", metric.max_drop, " drop"))
        if bound is not None
    ]
    return ", ".join(parts) or "none"


def sentence(results: Sequence[GateResult]) -> str:
    """The failed gates, each with its figure against its bound."""
    return "; ".join(
        f"{result.name} is {'not known' if result.value is None else f'{result.value:g}'}, wanted {result.bound}"
        + (f" ({result.detail})" if result.detail else "")
        for result in results
        if not result.passed
    )
