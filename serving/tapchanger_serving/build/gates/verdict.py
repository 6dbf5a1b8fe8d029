"""Judges one engine by all gates of the request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tapchanger_serving.build.answers import Fidelity, Floats, Forward, answers, outputs, scored
from tapchanger_serving.build.exported import Exported
from tapchanger_serving.build.gates.calibration import Calibrated, calibrate
from tapchanger_serving.build.gates.evaluation import Examination, Judged, evaluation
from tapchanger_serving.build.gates.parity import parity
from tapchanger_serving.build.gates.pooling import with_advice
from tapchanger_serving.build.gates.results import UnanswerableError, unanswered
from tapchanger_serving.build.gates.robustness import Subject, judge, robustness, unfit
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.contract.evidence import Calibration, Flips
from tapchanger_serving.contract.messages import BuildRequest, GateResult

_SCALING = "temperature scaling"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gates of one engine, and what was found on the way."""

    gates: tuple[GateResult, ...]
    calibration: Calibration | None = None
    robustness: tuple[Flips, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether all gates hold."""
        return all(gate.passed for gate in self.gates)

    @property
    def temperature(self) -> float | None:
        """What the engine's logits are to be divided by."""
        return self.calibration.temperature if self.calibration else None


@dataclass(frozen=True, slots=True)
class Judge:
    """Holds engines against the request's gates.

    `reference` are PyTorch's answers to all `texts`, `original` gives PyTorch itself for more of them.
    """

    request: BuildRequest
    examination: Examination
    texts: Encoded
    reference: Floats
    original: Callable[[], Forward]

    @property
    def _model(self) -> Exported:
        return self.examination.model

    def verdict(self, forward: Forward, fidelity: Fidelity) -> Verdict:
        """All gates of the engine that `forward` runs. Robustness, which costs most, is looked at where all else holds."""
        verdict = self._without_robustness(forward, fidelity)
        gate = self.request.gates.robustness
        if gate is None or not verdict.passed:
            return verdict
        if obstacles := unfit(gate, self._model):
            return replace(verdict, gates=(*verdict.gates, *obstacles))
        engine, reference = (Subject(run, self._model, self.texts.tokenizer) for run in (forward, self.original()))
        found = robustness(gate, self.examination.rows, engine, reference)
        return replace(verdict, gates=(*verdict.gates, *judge(gate, found)), robustness=found)

    def _without_robustness(self, forward: Forward, fidelity: Fidelity) -> Verdict:
        gate = self.request.gates.evaluation
        if gate is not None and self._model.task == "text-classification":
            return self.of_classifier(outputs(forward, self.texts, self._model), fidelity)
        results = [parity(self.request.gates.parity, fidelity)]
        if self.request.temperature_scaling:
            why = "it needs gates.evaluation and task text-classification; leave temperatureScaling out"
            results.append(unanswered(_SCALING, "a temperature", why))
        if gate is not None and gate.metrics:
            found = answers(forward, self.texts, self._model)
            judged = evaluation(gate, lambda: self.examination.judged(found, self.reference))
            if self._model.task == "feature-extraction":
                judged = with_advice(judged, self.original, self._model, self.examination.rows, self.texts.tokenizer)
            results += judged
        return Verdict(tuple(results))

    def of_classifier(self, logits: Floats, fidelity: Fidelity) -> Verdict:
        """The gates of an engine that classifies texts and gave these logits `[texts, dimensions]`."""

        def judged(temperature: float | None = None) -> Judged:
            return self.examination.judged(scored(logits, self._model, temperature), self.reference)

        scaling = self.request.temperature_scaling
        results = [parity(self.request.gates.parity, fidelity)]
        calibrated: Calibrated | None = None
        try:
            calibrated = calibrate(self.examination.rows.labels or (), logits, self._model, scaling=scaling)
        except UnanswerableError as obstacle:
            if scaling:
                results.append(unanswered(_SCALING, "a temperature", str(obstacle)))
        served = None
        if calibrated and calibrated.held_out is not None:
            served = judged(calibrated.report.temperature).take(calibrated.held_out)
        if gate := self.request.gates.evaluation:
            results += evaluation(gate, judged, served)
        return Verdict(tuple(results), calibrated.report if calibrated else None)
