"""Accuracy, macro F1 and calibration error, against scikit-learn and against their definitions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from tapchanger_serving.build.answers import compare, decided
from tapchanger_serving.build.metrics import accuracy as share_right
from tapchanger_serving.build.metrics import ece, f1

Floats = npt.NDArray[np.float32]


def scored(seed: int, rows: int, labels: int) -> tuple[Floats, npt.NDArray[np.intp]]:
    random = np.random.default_rng(seed)
    scores = random.dirichlet(np.ones(labels), size=rows).astype(np.float32)
    return scores, random.integers(0, labels, size=rows)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 80), st.integers(2, 6))
def test_accuracy_and_macro_f1_are_those_of_scikit_learn(seed: int, rows: int, labels: int) -> None:
    scores, truth = scored(seed, rows, labels)
    predicted = decided(scores)
    assert share_right(scores, truth, predicted) == pytest.approx(accuracy_score(truth, predicted))
    assert f1(scores, truth, predicted) == pytest.approx(f1_score(truth, predicted, average="macro"))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 80), st.integers(2, 6))
def test_calibration_error_is_the_weighted_gap_of_its_bins(seed: int, rows: int, labels: int) -> None:
    scores, truth = scored(seed, rows, labels)
    predicted = decided(scores)
    confidence, right = scores.max(axis=1).astype(np.float64), predicted == truth
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert ece(scores, truth, predicted) == pytest.approx(expected, abs=1e-6)


def test_calibration_error_of_sure_answers_is_their_error_rate() -> None:
    scores = np.tile(np.array([1.0, 0.0], dtype=np.float32), (10, 1))
    truth = np.array([0] * 7 + [1] * 3)
    assert ece(scores, truth, decided(scores)) == pytest.approx(0.3)


def test_a_single_score_is_the_chance_of_label_one() -> None:
    scores = np.array([[0.9], [0.2], [0.8], [0.1]], dtype=np.float32)
    truth = np.array([1, 0, 0, 0])
    assert decided(scores).tolist() == [1, 0, 1, 0]
    assert ece(scores, truth, decided(scores)) == pytest.approx((0.1 + 0.2 + 0.8 + 0.1) / 4)


def test_agreement_counts_equal_labels_and_reports_the_largest_difference() -> None:
    reference = np.array([[0.6, 0.4], [0.1, 0.9], [0.51, 0.49], [0.3, 0.7]], dtype=np.float32)
    found = np.array([[0.7, 0.3], [0.1, 0.9], [0.49, 0.51], [0.3, 0.7]], dtype=np.float32)
    fidelity = compare(found, reference, "text-classification")
    assert fidelity.agreement == 0.75
    assert fidelity.max_difference == pytest.approx(0.1, abs=1e-6)
    assert fidelity.cosine is None


def test_cosine_is_the_mean_and_the_worst_is_kept_too() -> None:
    reference = np.eye(2, dtype=np.float32)
    found = np.array([[2.0, 0.0], [1.0, 1.0]], dtype=np.float32)
    fidelity = compare(found, reference, "feature-extraction")
    assert fidelity.worst_cosine == pytest.approx(np.sqrt(0.5))
    assert fidelity.cosine == pytest.approx((1 + np.sqrt(0.5)) / 2)
    assert fidelity.agreement is None
