"""Calibration: an over-confident model is told, a temperature is fitted on one half and judged on the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapchanger_serving.build.answers import Fidelity, Floats, decided, scored
from tapchanger_serving.build.dataset import Rows
from tapchanger_serving.build.gates.calibration import calibrate
from tapchanger_serving.build.gates.evaluation import Examination
from tapchanger_serving.build.gates.results import UnanswerableError, sentence
from tapchanger_serving.build.gates.verdict import Judge, Verdict
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.contract.gates import DatasetSource, EvaluationGate, Gates, MetricGate
from tapchanger_serving.contract.messages import BuildRequest, Hardware
from tests.support.gate_samples import model

THREE = model(labels=("a", "b", "c"), dimensions=3)


def drawn(seed: int, rows: int, sharpness: float) -> tuple[tuple[str, ...], Floats]:
    """Labels drawn from calibrated scores, and logits that are `sharpness` times too sure."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (rows, 3)).astype(np.float32)
    scores = scored(logits, THREE).astype(np.float64)
    truth = (random.random((rows, 1)) > scores.cumsum(axis=1)).sum(axis=1).clip(max=2)
    return tuple("abc"[label] for label in truth), np.float32(sharpness) * logits


@pytest.mark.parametrize("sharpness", [0.5, 2.0, 4.0])
def test_the_temperature_is_the_factor_by_which_a_model_is_too_sure(sharpness: float) -> None:
    found = calibrate(*drawn(1, 6000, sharpness), THREE, scaling=True).report
    assert found.temperature == pytest.approx(sharpness, rel=0.1)
    assert found.after is not None
    assert found.after.ece < 0.03 < found.before.ece
    assert found.after.brier < found.before.brier
    assert sum(point.count for point in found.after.bins) == found.rows == 3000


def test_a_temperature_that_does_not_help_the_other_half_is_not_taken() -> None:
    found = calibrate(*drawn(5, 200, 1.0), THREE, scaling=True)
    better = calibrate(*drawn(5, 200, 3.0), THREE, scaling=True)
    assert (found.report.temperature is None) == (found.held_out is None)
    assert better.report.temperature is not None


def test_the_halves_are_the_same_each_time_and_even_by_label() -> None:
    labels, logits = drawn(2, 1001, 2.0)
    first, second = (calibrate(labels, logits, THREE, scaling=True).held_out for _ in range(2))
    assert first is not None
    assert second is not None
    assert (first == second).all()
    for label in "abc":
        mine = np.array(labels) == label
        assert abs(2 * np.count_nonzero(first & mine) - np.count_nonzero(mine)) <= 1


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 20))
def test_a_temperature_changes_no_label(seed: int, temperature: float) -> None:
    logits = np.random.default_rng(seed).normal(0, 5, (50, 3)).astype(np.float32)
    assert (decided(scored(logits, THREE, temperature)) == decided(scored(logits, THREE))).all()


def test_several_labels_per_text_are_calibrated_by_decision() -> None:
    several = model(labels=("a", "b", "c"), dimensions=3, activation="sigmoid")
    random = np.random.default_rng(4)
    logits = random.normal(0, 2, (4000, 3)).astype(np.float32)
    truth = random.random((4000, 3)) < scored(logits, several)
    labels = tuple("|".join(np.array(["a", "b", "c"])[row]) for row in truth)
    found = calibrate(labels, 3 * logits, several, scaling=True).report
    assert found.temperature == pytest.approx(3.0, rel=0.1)


def test_a_single_logit_is_calibrated_too() -> None:
    single = model(dimensions=1, activation="sigmoid")
    random = np.random.default_rng(4)
    logits = random.normal(0, 2, (4000, 1)).astype(np.float32)
    labels = tuple("angry" if random.random() < score else "calm" for score in scored(logits, single)[:, 1])
    assert calibrate(labels, 3 * logits, single, scaling=True).report.temperature == pytest.approx(3.0, rel=0.1)


def test_a_few_rows_are_not_enough() -> None:
    with pytest.raises(UnanswerableError, match="60 rows of evaluation data; give 100"):
        calibrate(*drawn(1, 60, 2.0), THREE, scaling=True)


def verdict(labels: tuple[str, ...], logits: Floats, metric: MetricGate, *, scaling: bool) -> Verdict:
    request = BuildRequest(
        name="eb-1",
        uri="pvc://m/a",
        digest="sha256:0",
        task="text-classification",
        gates=Gates(evaluation=EvaluationGate(dataset=DatasetSource(uri="pvc://d/x.csv"), metrics=(metric,))),
        temperature_scaling=scaling,
        hardware=Hardware(arch="amd64"),
    )
    rows = Rows(texts=("x",) * len(labels), labels=labels)
    judge = Judge(request, Examination(THREE, rows), Encoded(None, (), 8), scored(logits, THREE), list)  # type: ignore[arg-type]
    return judge.of_classifier(logits, Fidelity(agreement=1.0, count=len(labels)))


def test_an_over_confident_model_fails_at_its_calibration_error_and_passes_with_a_temperature() -> None:
    labels, logits = drawn(1, 3000, 4.0)
    bound = MetricGate(name="ece", max=0.05)
    plain, calibrated = (verdict(labels, logits, bound, scaling=scaling) for scaling in (False, True))
    assert not plain.passed
    assert sentence(plain.gates).startswith("ece is 0.1")
    assert plain.temperature is None
    assert plain.calibration is not None
    assert plain.calibration.rows == 3000
    assert calibrated.passed
    assert calibrated.temperature == pytest.approx(4.0, rel=0.1)
    assert calibrated.gates[-1].rows == 1500


def test_temperature_scaling_without_enough_data_is_a_failed_gate() -> None:
    labels, logits = drawn(1, 60, 4.0)
    found = verdict(labels, logits, MetricGate(name="accuracy", min=0), scaling=True)
    assert not found.passed
    assert "temperature scaling is not known" in sentence(found.gates)
