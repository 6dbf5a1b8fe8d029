"""Metrics as functions of row weights, so that a bootstrap is a few matrix products. They equal scikit-learn's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tapchanger_serving.build.gates.resampling import Doubles, Statistic

Ints = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]

ECE_BINS = 15
_Parts = Callable[[Doubles], tuple[Doubles, Doubles]]


def mean_of(values: npt.ArrayLike) -> Statistic:
    """The mean of a figure of each row."""
    column = np.asarray(values, dtype=np.float64)
    return lambda weights: weights @ column / weights.sum(axis=1)


def f1_macro(truth: Bools, predicted: Bools) -> Statistic:
    """Unweighted mean of each label's F1 over the labels that occur; `truth` and `predicted` are `[rows, labels]`."""
    hits, sizes = _counts(truth, predicted)

    def statistic(weights: Doubles) -> Doubles:
        return _mean_where(2 * (weights @ hits), weights @ sizes)

    return statistic


def f1_micro(truth: Bools, predicted: Bools) -> Statistic:
    """F1 of all decisions together; `truth` and `predicted` are `[rows, labels]`."""
    hits, sizes = (counts.sum(axis=1) for counts in _counts(truth, predicted))
    return ratio(2 * hits, sizes)


def ratio(upper: npt.ArrayLike, lower: npt.ArrayLike) -> Statistic:
    """The sum of one figure of the rows over the sum of another, NaN where that is 0."""
    above, below = np.asarray(upper, dtype=np.float64), np.asarray(lower, dtype=np.float64)

    def statistic(weights: Doubles) -> Doubles:
        return _divided(weights @ above, weights @ below, np.nan)

    return statistic


def auc(truth: Bools, scores: npt.NDArray[np.floating]) -> Statistic:
    """Area under the ROC curve, the mean over the labels `[rows, labels]` that some rows have and others have not.

    As the Mann-Whitney statistic, with ties as one half (Hanley and McNeil 1982, The Meaning and Use of the Area under a
    Receiver Operating Characteristic Curve).
    """
    labels = [_auc_of_one(column, score) for column, score in zip(truth.T, scores.T, strict=True)]

    def statistic(weights: Doubles) -> Doubles:
        upper, lower = zip(*(label(weights) for label in labels), strict=True)
        return _mean_where(np.stack(upper, axis=1), np.stack(lower, axis=1))

    return statistic


def _auc_of_one(truth: Bools, scores: npt.NDArray[np.floating]) -> _Parts:
    order, starts = ties(scores)
    positive = truth[order]

    def parts(weights: Doubles) -> tuple[Doubles, Doubles]:
        ordered = weights[:, order]
        above = np.add.reduceat(ordered * positive, starts, axis=1)
        below = np.add.reduceat(ordered * ~positive, starts, axis=1)
        won = (above * (below.cumsum(axis=1) - below / 2)).sum(axis=1)
        return won, above.sum(axis=1) * below.sum(axis=1)

    return parts


def ties(values: npt.NDArray[np.floating]) -> tuple[Ints, Ints]:
    """The order of the values, and where in it each group of equal values starts."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    return order, np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def mcc(truth: Bools, predicted: Bools) -> Statistic:
    """Matthews' correlation for any number of labels (Gorodkin 2004, Comparing two K-category assignments, eq. 8).

    `truth` and `predicted` are one-hot `[rows, labels]`; 0 where either is constant, as in scikit-learn.
    """
    right = (truth & predicted).any(axis=1).astype(np.float64)
    true, guess = truth.astype(np.float64), predicted.astype(np.float64)

    def statistic(weights: Doubles) -> Doubles:
        total, correct, wanted, given = weights.sum(axis=1), weights @ right, weights @ true, weights @ guess
        covariance = correct * total - (wanted * given).sum(axis=1)
        spread = (total**2 - (wanted**2).sum(axis=1)) * (total**2 - (given**2).sum(axis=1))
        return _divided(covariance, np.sqrt(spread), 0.0)

    return statistic


def brier(truth: Bools, scores: npt.NDArray[np.floating]) -> Statistic:
    """Mean squared error of the scores (Brier 1950), `[rows, labels]`: their sum over labels, for two labels half of it."""
    losses = np.square(scores.astype(np.float64) - truth).sum(axis=1)
    return mean_of(losses / 2 if truth.shape[1] == 2 else losses)


def ece(confidence: Doubles, correct: Bools) -> Statistic:
    """Expected calibration error with 15 bins of equal width (Guo et al. 2017, On Calibration of Modern Neural Networks, eq. 3).

    Bins are `(k/15, (k+1)/15]` of the predicted label's score.
    """
    gaps = np.zeros((len(confidence), ECE_BINS))
    gaps[np.arange(len(confidence)), bins(confidence)] = confidence - correct
    return lambda weights: np.abs(weights @ gaps).sum(axis=1) / weights.sum(axis=1)


def bins(confidence: Doubles) -> Ints:
    """The bin of each confidence."""
    return np.clip(np.ceil(confidence * ECE_BINS).astype(np.intp) - 1, 0, ECE_BINS - 1)


def spearman(left: Doubles, right: Doubles) -> Statistic:
    """Spearman's rank correlation, ties at their middle rank; NaN where either is constant."""
    first, second = _ranks(left), _ranks(right)

    def statistic(weights: Doubles) -> Doubles:
        total = weights.sum(axis=1, keepdims=True)
        a, b = (ranked - (weights * ranked).sum(axis=1, keepdims=True) / total
                for ranked in (first(weights), second(weights)))  # fmt: skip
        spread = np.sqrt((weights * a**2).sum(axis=1) * (weights * b**2).sum(axis=1))
        return _divided((weights * a * b).sum(axis=1), spread, np.nan)

    return statistic


def _ranks(values: Doubles) -> Statistic:
    order, starts = ties(values)
    sizes = np.diff([*starts, len(values)])

    def ranks(weights: Doubles) -> Doubles:
        groups = np.add.reduceat(weights[:, order], starts, axis=1)
        ranked = np.empty_like(weights)
        ranked[:, order] = np.repeat(groups.cumsum(axis=1) - (groups - 1) / 2, sizes, axis=1)
        return ranked

    return ranks


def one_hot(labels: Ints, count: int) -> Bools:
    """`[rows, count]` from label ids."""
    hot: Bools = labels[:, None] == np.arange(count)
    return hot


def _counts(truth: Bools, predicted: Bools) -> tuple[Doubles, Doubles]:
    return (truth & predicted).astype(np.float64), truth.astype(np.float64) + predicted


def _mean_where(upper: Doubles, lower: Doubles) -> Doubles:
    """Mean over the columns of `upper / lower` where `lower` is not 0; NaN where it is everywhere."""
    return _divided(_divided(upper, lower, 0.0).sum(axis=1), (lower > 0).sum(axis=1).astype(np.float64), np.nan)


def _divided(upper: Doubles, lower: Doubles, otherwise: float) -> Doubles:
    quotient: Doubles = np.divide(upper, lower, out=np.full(np.shape(upper), otherwise), where=lower > 0)
    return quotient
