"""Metrics of the evaluation data."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float32]

ECE_BINS = 15


def accuracy(scores: Floats, truth: Ints, predicted: Ints) -> float:  # noqa: ARG001 - one signature for all metrics
    """Share of texts whose predicted label is the true one."""
    return float((predicted == truth).mean())


def f1(scores: Floats, truth: Ints, predicted: Ints) -> float:  # noqa: ARG001 - one signature for all metrics
    """Macro F1: the unweighted mean over the labels that occur in the truth or the predictions."""
    values = []
    for label in np.union1d(truth, predicted):
        hit = np.count_nonzero((truth == label) & (predicted == label))
        values.append(2 * hit / (np.count_nonzero(truth == label) + np.count_nonzero(predicted == label)))
    return float(np.mean(values))


def ece(scores: Floats, truth: Ints, predicted: Ints) -> float:
    """Expected calibration error with 15 bins of equal width (Guo et al. 2017, On Calibration of Modern Neural Networks, eq. 3).

    The confidence is the predicted label's score; bins are `(k/15, (k+1)/15]`.
    """
    confidence = _confidence(scores, predicted)
    correct = (predicted == truth).astype(np.float64)
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(np.intp) - 1, 0, ECE_BINS - 1)
    gaps = np.bincount(bins, weights=confidence - correct, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / len(truth))


METRICS = {"accuracy": accuracy, "f1": f1, "ece": ece}
LOWER_IS_BETTER = {"ece"}


def _confidence(scores: Floats, predicted: Ints) -> npt.NDArray[np.float64]:
    if scores.shape[1] == 1:
        positive = scores[:, 0].astype(np.float64)
        return np.where(predicted == 1, positive, 1 - positive)
    return scores[np.arange(len(predicted)), predicted].astype(np.float64)
