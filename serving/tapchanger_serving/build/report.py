"""Fits a build's report into the termination message; the store keeps the complete one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tapchanger_serving.build import termination
from tapchanger_serving.build.gates.results import UNBOUNDED
from tapchanger_serving.contract.messages import (
    TERMINATION_MESSAGE_LIMIT,
    BuildReport,
    Candidate,
    GateResult,
    engine_title,
)

_CLASSES = 3


def report_text(report: BuildReport) -> str:
    """The report as JSON of at most 4096 bytes.

    The candidates' own surfaces, files and options are never in it. Versions, diagrams, examples and epochs go first, then
    details, passed slices, words and surface points; last go whole sections.
    """
    report = _brief_candidates(report)
    for smaller in _STAGES:
        text = report.dumps()
        if termination.size(text) <= TERMINATION_MESSAGE_LIMIT:
            return text
        report = smaller(report)
    text = report.dumps()
    if termination.size(text) > TERMINATION_MESSAGE_LIMIT:
        msg = f"the report has {termination.size(text)} bytes even at its shortest"
        raise ValueError(msg)
    return text


def _brief_candidates(report: BuildReport) -> BuildReport:
    left_out = {"surface": None, "engine": None, "options": None}
    return report.model_copy(update={"candidates": tuple(one.model_copy(update=left_out) for one in report.candidates)})


def _no_lists(report: BuildReport) -> BuildReport:
    """Without the reliability diagram, the examples of the data and of flips, and all but the rarest labels."""
    calibration, data = report.calibration, report.data
    if calibration is not None:
        changed = {
            name: found.model_copy(update={"bins": ()})
            for name, found in (("before", calibration.before), ("after", calibration.after))
            if found is not None
        }
        calibration = calibration.model_copy(update=changed)
    if data is not None:
        suspicions = ("duplicates", "near_duplicates", "leakage", "label_noise", "personal_rows")
        found = {name: getattr(data, name) for name in suspicions}
        data = data.model_copy(
            update={
                **{name: value and value.model_copy(update={"examples": ()}) for name, value in found.items()},
                "personal_data": tuple(kind.model_copy(update={"examples": ()}) for kind in data.personal_data),
                "classes": data.classes[:_CLASSES],
            }
        )
    flips = tuple(kind.model_copy(update={"examples": ()}) for kind in report.robustness)
    return report.model_copy(update={"calibration": calibration, "data": data, "robustness": flips})


def _brief_distillation(report: BuildReport) -> BuildReport:
    """Of the epochs only that before any training, the best and the last."""
    found = report.distillation
    if found is None:
        return report
    last = len(found.epochs) - 1
    kept = tuple(epoch for index, epoch in enumerate(found.epochs) if index in (0, last) or epoch.number == found.best)
    return report.model_copy(update={"distillation": found.model_copy(update={"epochs": kept})})


def _short_errors(report: BuildReport) -> BuildReport:
    return report.model_copy(
        update={"candidates": tuple(_shortened(candidate, 120) for candidate in report.candidates)}
    )


def _shortened(candidate: Candidate, length: int) -> Candidate:
    return candidate.model_copy(update={"error": candidate.error and termination.shorten(candidate.error, length)})


def _no_passed_details(report: BuildReport) -> BuildReport:
    nothing = {"detail": None, "examples": ()}
    gates = (gate.model_copy(update=nothing) if gate.passed else gate for gate in report.gates)
    return report.model_copy(update={"gates": tuple(gates)})


def _fewer_gates(report: BuildReport, count: int) -> BuildReport:
    """Failed gates stay, then bounds on all rows, then those on slices, then figures without a bound."""
    kept = sorted(report.gates, key=_rank)[:count]
    return report.model_copy(update={"gates": tuple(_brief(gate) for gate in kept)})


def _rank(gate: GateResult) -> int:
    if not gate.passed:
        return 0
    return (2 if "[" in gate.name else 1) if gate.bound != UNBOUNDED else 3


def _brief(gate: GateResult) -> GateResult:
    return gate.model_copy(
        update={
            "name": termination.shorten(gate.name, 60),
            "detail": gate.detail and termination.shorten(gate.detail, 80),
            "examples": gate.examples[:3],
        }
    )


def _fewer_candidates(report: BuildReport, count: int) -> BuildReport:
    """The chosen one stays, then the fastest, in their order."""
    ranked = sorted(
        report.candidates,
        key=lambda one: (engine_title(one) != engine_title(report), -(one.texts_per_second or 0.0)),
    )
    kept = {id(one) for one in ranked[:count]}
    return report.model_copy(update={"candidates": tuple(one for one in report.candidates if id(one) in kept)})


def _short_words(report: BuildReport) -> BuildReport:
    return report.model_copy(
        update={
            "why": termination.shorten(report.why, 300),
            "candidates": tuple(_shortened(candidate, 40) for candidate in report.candidates),
        }
    )


def _corners(report: BuildReport) -> BuildReport:
    return report.model_copy(update={"surface": (*report.surface[:1], *report.surface[-1:]) if report.surface else ()})


def _no_intervals(report: BuildReport) -> BuildReport:
    gates = (gate.model_copy(update={"interval": None, "rows": None}) if gate.passed else gate for gate in report.gates)
    return report.model_copy(update={"gates": tuple(gates)})


def _no_sections(report: BuildReport) -> BuildReport:
    return report.model_copy(update={"data": None, "robustness": (), "distillation": None})


def _no_software(report: BuildReport) -> BuildReport:
    return report.model_copy(update={"software": None})


_STAGES: tuple[Callable[[BuildReport], BuildReport], ...] = (
    _no_software,
    _no_lists,
    _brief_distillation,
    _short_errors,
    _no_passed_details,
    partial(_fewer_gates, count=12),
    _short_words,
    _corners,
    _no_sections,
    _no_intervals,
    partial(_fewer_candidates, count=8),
    partial(_fewer_gates, count=6),
    partial(_fewer_gates, count=3),
)
