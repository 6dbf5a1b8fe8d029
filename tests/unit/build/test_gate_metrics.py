"""Metrics of weighted rows are scikit-learn's and SciPy's on the rows that the weights stand for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn import metrics as sklearn

from tapchanger_serving.build.answers import Floats, compare, decided
from tapchanger_serving.build.gates import metrics
from tapchanger_serving.build.gates.classified import Labelled, MultiLabelled
from tapchanger_serving.build.gates.paired import Paired
from tapchanger_serving.build.gates.resampling import RESAMPLES, bootstrap, draw, figure, wilson
from tapchanger_serving.build.gates.results import UnanswerableError
from tapchanger_serving.contract.gates import MetricName
from tests.support.gate_samples import model

SEEDS = st.integers(0, 2**32 - 1)


def labelled(seed: int, rows: int, labels: int) -> Labelled:
    random = np.random.default_rng(seed)
    # Scores in tenths, so that there are ties.
    scores = random.integers(0, 11, size=(rows, labels)).astype(np.float32) + np.float32(0.1)
    return Labelled(random.integers(0, labels, size=rows), scores / scores.sum(axis=1, keepdims=True))


def weighted(seed: int, rows: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """Weights, and the rows that they stand for."""
    weights = np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), size=1)
    return weights.astype(np.float64), np.repeat(np.arange(rows), weights[0])


def expected(metric: MetricName, truth: npt.NDArray[np.intp], scores: Floats) -> float:
    predicted = decided(scores)
    match metric:
        case "accuracy":
            return float(sklearn.accuracy_score(truth, predicted))
        case "f1":
            return float(sklearn.f1_score(truth, predicted, average="macro"))
        case "mcc":
            return float(sklearn.matthews_corrcoef(truth, predicted))
        case "brier":
            hot = np.eye(scores.shape[1])[truth]
            if scores.shape[1] == 2:
                return float(sklearn.brier_score_loss(truth, scores[:, 1], labels=[0, 1]))
            return float(np.square(scores - hot).sum(axis=1).mean())
    areas = [
        sklearn.roc_auc_score(truth == label, scores[:, label])
        for label in range(scores.shape[1])
        if 0 < np.count_nonzero(truth == label) < len(truth)
    ]
    return float(np.mean(areas)) if areas else float("nan")


@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
@pytest.mark.parametrize("metric", ["accuracy", "f1", "mcc", "brier", "auc"])
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, rows=st.integers(2, 60), labels=st.integers(2, 5))
def test_metrics_of_single_labels_are_those_of_scikit_learn(
    metric: MetricName, seed: int, rows: int, labels: int
) -> None:
    sample = labelled(seed, rows, labels)
    weights, chosen = weighted(seed + 1, rows)
    found = float(sample.statistic(metric)(weights)[0])
    assert found == pytest.approx(expected(metric, sample.truth[chosen], sample.scores[chosen]), abs=1e-6, nan_ok=True)


def test_brier_of_many_labels_is_that_of_scikit_learn() -> None:
    sample = labelled(3, 50, 4)
    exact = sample.scores.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    wanted = sklearn.brier_score_loss(sample.truth, exact, labels=[0, 1, 2, 3])
    assert figure(sample.statistic("brier"), 50) == pytest.approx(wanted, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(2, 60), st.integers(2, 6))
def test_f1_of_several_labels_is_that_of_scikit_learn(seed: int, rows: int, labels: int) -> None:
    random = np.random.default_rng(seed)
    sample = MultiLabelled(random.random((rows, labels)) < 0.4, random.random((rows, labels)).astype(np.float32))
    sample.truth[0] = True
    predicted = sample.scores > 0.5
    occurring = (sample.truth | predicted).any(axis=0)
    macro = sklearn.f1_score(sample.truth[:, occurring], predicted[:, occurring], average="macro", zero_division=0)
    assert figure(sample.statistic("f1"), rows) == pytest.approx(macro)
    micro = sklearn.f1_score(sample.truth, predicted, average="micro")
    assert figure(sample.statistic("f1_micro"), rows) == pytest.approx(micro)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(3, 60))
def test_rank_correlation_is_that_of_scipy(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    sample = Paired(random.integers(0, 5, rows).astype(np.float64), random.integers(0, 5, rows).astype(np.float64))
    weights, chosen = weighted(seed, rows)
    left, right = sample.cosines[chosen], sample.likeness[chosen]
    wanted = spearmanr(left, right).statistic if np.ptp(left) and np.ptp(right) else np.nan
    assert float(sample.statistic("spearman")(weights)[0]) == pytest.approx(wanted, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 80), st.integers(2, 6))
def test_calibration_error_is_the_weighted_gap_of_its_bins(seed: int, rows: int, labels: int) -> None:
    random = np.random.default_rng(seed)
    sample = Labelled(random.integers(0, labels, rows), random.dirichlet(np.ones(labels), rows).astype(np.float32))
    wanted = 0.0
    for low in np.arange(15) / 15:
        inside = (sample.confidence > low) & (sample.confidence <= low + 1 / 15)
        if inside.any():
            wanted += inside.mean() * abs((~sample.wrong())[inside].mean() - sample.confidence[inside].mean())
    assert figure(sample.statistic("ece"), rows) == pytest.approx(wanted, abs=1e-6)


def test_a_single_score_is_the_chance_of_label_one() -> None:
    scores = np.array([[0.9], [0.3], [0.8], [0.1]], dtype=np.float32)
    sample = Labelled.of(np.array([1, 0, 0, 0]), scores)
    assert sample.predicted.tolist() == decided(scores).tolist() == [1, 0, 1, 0]
    assert figure(sample.statistic("ece"), 4) == pytest.approx((0.1 + 0.3 + 0.8 + 0.1) / 4)
    assert figure(sample.statistic("auc"), 4) == 1.0


def test_a_metric_of_another_task_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnanswerableError, match="f1_micro is no metric of texts with one label each; use accuracy, f1"):
        labelled(0, 4, 2).statistic("f1_micro")


def test_intervals_are_the_same_each_time_and_narrow_with_more_rows() -> None:
    few, many = labelled(1, 50, 3), labelled(1, 2000, 3)
    narrow, wide = (bootstrap(sample.statistic("f1"), len(sample)) for sample in (many, few))
    assert narrow == bootstrap(many.statistic("f1"), 2000)
    assert narrow is not None
    assert wide is not None
    assert narrow.high - narrow.low < (wide.high - wide.low) / 3
    assert draw(20).shape == (RESAMPLES, 20)
    assert (draw(20).sum(axis=1) == 20).all()


def test_the_bootstrap_covers_the_true_figure_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(100):
        hits = np.random.default_rng(seed).random(300) < 0.8
        interval = bootstrap(metrics.mean_of(hits), 300)
        assert interval is not None
        covered += interval.low <= 0.8 <= interval.high
    assert 88 <= covered <= 100


@pytest.mark.parametrize(("share", "rows", "low", "high"), [(0.5, 10, 0.2366, 0.7634), (1.0, 30, 0.8865, 1.0)])
def test_shares_have_the_interval_of_wilson(share: float, rows: int, low: float, high: float) -> None:
    interval = wilson(share, rows)
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


def test_a_figure_that_is_not_defined_has_no_interval() -> None:
    sample = Labelled(np.zeros(40, dtype=np.intp), np.tile(np.array([[0.7, 0.3]], dtype=np.float32), (40, 1)))
    assert np.isnan(figure(sample.statistic("auc"), 40))
    assert bootstrap(sample.statistic("auc"), 40) is None


def test_agreement_counts_equal_labels_and_reports_the_largest_difference() -> None:
    reference = np.array([[0.6, 0.4], [0.1, 0.9], [0.51, 0.49], [0.3, 0.7]], dtype=np.float32)
    found = np.array([[0.7, 0.3], [0.1, 0.9], [0.49, 0.51], [0.3, 0.7]], dtype=np.float32)
    fidelity = compare(found, reference, model())
    assert fidelity.agreement == 0.75
    assert fidelity.max_difference == pytest.approx(0.1, abs=1e-6)
    assert fidelity.cosine is None
    assert (fidelity.count, fidelity.interval) == (4, wilson(0.75, 4))


def test_texts_with_several_labels_agree_when_all_of_them_do() -> None:
    reference = np.array([[0.9, 0.9, 0.1], [0.9, 0.2, 0.1]], dtype=np.float32)
    found = np.array([[0.9, 0.4, 0.1], [0.8, 0.1, 0.2]], dtype=np.float32)
    several = model(labels=("a", "b", "c"), dimensions=3, activation="sigmoid")
    assert compare(found, reference, several).agreement == 0.5


def test_cosine_is_the_mean_and_the_worst_is_kept_too() -> None:
    reference = np.eye(2, dtype=np.float32)
    found = np.array([[2.0, 0.0], [1.0, 1.0]], dtype=np.float32)
    fidelity = compare(found, reference, model(task="feature-extraction"))
    assert fidelity.worst_cosine == pytest.approx(np.sqrt(0.5))
    assert fidelity.cosine == pytest.approx((1 + np.sqrt(0.5)) / 2)
    assert fidelity.agreement is None
