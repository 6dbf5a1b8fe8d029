"""Fits a build's report into the termination message; the store keeps the complete one."""

from __future__ import annotations

from collections.abc import Callable

from tapchanger_serving.build import termination
from tapchanger_serving.contract.messages import TERMINATION_MESSAGE_LIMIT, BuildReport, Candidate, GateResult

_KEPT_GATES = 12


def report_text(report: BuildReport) -> str:
    """The report as JSON of at most 4096 bytes: versions go first, then details, passed slices, words, surface points."""
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


def _short_errors(report: BuildReport) -> BuildReport:
    return report.model_copy(
        update={"candidates": tuple(_shortened(candidate, 120) for candidate in report.candidates)}
    )


def _shortened(candidate: Candidate, length: int) -> Candidate:
    return candidate.model_copy(update={"error": candidate.error and termination.shorten(candidate.error, length)})


def _no_passed_details(report: BuildReport) -> BuildReport:
    gates = (gate.model_copy(update={"detail": None}) if gate.passed else gate for gate in report.gates)
    return report.model_copy(update={"gates": tuple(gates)})


def _fewer_gates(report: BuildReport) -> BuildReport:
    """Failed gates and gates on all rows stay; of the slices that passed, those named first."""
    important = [gate for gate in report.gates if not gate.passed or "[" not in gate.name]
    slices = [gate for gate in report.gates if gate.passed and "[" in gate.name]
    kept = (important + slices)[:_KEPT_GATES]
    return report.model_copy(update={"gates": tuple(_brief(gate) for gate in kept)})


def _brief(gate: GateResult) -> GateResult:
    return gate.model_copy(
        update={
            "name": termination.shorten(gate.name, 60),
            "detail": gate.detail and termination.shorten(gate.detail, 80),
        }
    )


def _short_words(report: BuildReport) -> BuildReport:
    return report.model_copy(
        update={
            "why": termination.shorten(report.why, 300),
            "candidates": tuple(_shortened(candidate, 40) for candidate in report.candidates),
        }
    )


def _corners(report: BuildReport) -> BuildReport:
    return report.model_copy(update={"surface": (*report.surface[:1], *report.surface[-1:]) if report.surface else ()})


def _no_software(report: BuildReport) -> BuildReport:
    return report.model_copy(update={"software": None})


_STAGES: tuple[Callable[[BuildReport], BuildReport], ...] = (
    _no_software,
    _short_errors,
    _no_passed_details,
    _fewer_gates,
    _short_words,
    _corners,
)
