"""Calibration: the reliability of an engine's confidence, and the temperature that improves it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from tapchanger_serving.build.answers import Floats, scored
from tapchanger_serving.build.exported import Exported
from tapchanger_serving.build.gates import metrics
from tapchanger_serving.build.gates.classified import Labelled, MultiLabelled, classified
from tapchanger_serving.build.gates.metrics import Ints
from tapchanger_serving.build.gates.resampling import Doubles, figure
from tapchanger_serving.build.gates.results import UnanswerableError
from tapchanger_serving.build.gates.samples import Mask
from tapchanger_serving.contract.evidence import Calibration, Reliability, ReliabilityBin

MIN_ROWS = 100
_SEED = 20_260_102
_RANGE = (0.05, 20.0)
_TINY = 1e-30


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What is reported, and the rows on which a temperature is judged, if there is one."""

    report: Calibration
    held_out: Mask | None = None


def calibrate(labels: tuple[str, ...], logits: Floats, model: Exported, *, scaling: bool | None) -> Calibrated:
    """The reliability of a classifier, and with `scaling` the temperature that improves it.

    Temperature scaling (Guo et al. 2017, section 4.2) takes the temperature of the smallest negative log-likelihood. It is
    fitted on one half of the rows, drawn by label with a fixed seed, and kept only if it lowers the loss of the other half.
    Raises :class:`UnanswerableError` for unknown labels and too few rows.
    """
    plain = classified(labels, scored(logits, model), model)
    if not scaling:
        return Calibrated(Calibration(rows=len(plain), before=reliability(plain)))
    if len(plain) < MIN_ROWS:
        raise UnanswerableError(
            f"{len(plain)} rows of evaluation data; give {MIN_ROWS}, or set temperatureScaling: false"
        )
    held_out = _half(plain)
    temperature = _fitted(plain.take(~held_out), logits[~held_out], model)
    before = plain.take(held_out)
    after = classified(labels, scored(logits, model, temperature), model).take(held_out)
    found = Calibration(rows=len(before), before=reliability(before))
    if _loss(after) >= _loss(before):
        return Calibrated(found)
    return Calibrated(found.model_copy(update={"temperature": temperature, "after": reliability(after)}), held_out)


def reliability(sample: Labelled | MultiLabelled) -> Reliability:
    """ECE, Brier score and the bins of the reliability diagram; of several labels per text, each is a decision."""
    confidence, correct, brier = _decisions(sample)
    where = metrics.bins(confidence)
    return Reliability(
        ece=_rounded(figure(metrics.ece(confidence, correct), len(confidence))),
        brier=_rounded(brier),
        bins=tuple(
            ReliabilityBin(
                count=int(np.count_nonzero(where == number)),
                confidence=_rounded(confidence[where == number].mean()),
                accuracy=_rounded(correct[where == number].mean()),
            )
            for number in np.unique(where)
        ),
    )


def _decisions(sample: Labelled | MultiLabelled) -> tuple[Doubles, Mask, float]:
    if isinstance(sample, Labelled):
        brier = figure(metrics.brier(metrics.one_hot(sample.truth, sample.scores.shape[1]), sample.scores), len(sample))
        return sample.confidence, ~sample.wrong(), brier
    scores = sample.scores.astype(np.float64).ravel()
    truth = sample.truth.ravel()
    return np.maximum(scores, 1 - scores), (scores > 0.5) == truth, float(np.square(scores - truth).mean())


def _fitted(sample: Labelled | MultiLabelled, logits: Floats, model: Exported) -> float:
    def loss(log_temperature: float) -> float:
        return _loss(sample.scored(scored(logits, model, float(np.exp(log_temperature)))))

    found = minimize_scalar(loss, bounds=np.log(_RANGE), method="bounded")
    return round(float(np.exp(found.x)), 4)


def _loss(sample: Labelled | MultiLabelled) -> float:
    """Mean negative log-likelihood of the truth."""
    scores = sample.scores.astype(np.float64)
    if isinstance(sample, Labelled):
        likelihood = scores[np.arange(len(sample)), sample.truth]
    else:
        likelihood = np.where(sample.truth, scores, 1 - scores)
    return float(-np.log(np.maximum(likelihood, _TINY)).mean())


def _half(sample: Labelled | MultiLabelled) -> npt.NDArray[np.bool_]:
    """Every second row of each label, in a random order that is always the same."""
    random = np.random.default_rng(_SEED)
    kinds: Ints
    if isinstance(sample, Labelled):
        kinds = sample.truth
    else:
        kinds = np.unique(sample.truth, axis=0, return_inverse=True)[1].reshape(-1).astype(np.intp)
    order = random.permutation(len(sample))
    order = order[np.argsort(kinds[order], kind="stable")]
    chosen = np.zeros(len(sample), dtype=bool)
    chosen[order[::2]] = True
    return chosen


def _rounded(value: float) -> float:
    return round(float(value), 6)
