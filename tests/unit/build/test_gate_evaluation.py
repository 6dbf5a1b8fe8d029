"""Gates: every bound is held against its figure, and what can't be evaluated fails."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

from tapchanger_serving.build.answers import Fidelity, Floats, compare
from tapchanger_serving.build.dataset import Rows
from tapchanger_serving.build.gates.parity import parity
from tapchanger_serving.build.gates.resampling import wilson
from tapchanger_serving.build.gates.results import sentence
from tapchanger_serving.contract.gates import MetricGate, ParityGate
from tests.support.gate_samples import judge, model, rows, scores


@pytest.mark.parametrize(("agreement", "passed"), [(0.995, True), (0.9949, False), (None, False)])
def test_label_agreement_is_held_against_its_bound(agreement: float | None, passed: bool) -> None:
    result = parity(ParityGate(min_agreement=0.995), Fidelity(agreement=agreement))
    assert result.passed is passed
    assert result.bound == "≥ 0.995"


def test_embeddings_are_held_against_the_cosine_and_the_worst_text_is_told() -> None:
    result = parity(ParityGate(), Fidelity(cosine=0.9985, worst_cosine=0.97))
    assert not result.passed
    assert result.value == 0.9985
    assert "0.97" in (result.detail or "")


def test_with_confident_the_near_end_of_the_interval_is_held_against_the_bound() -> None:
    fidelity = Fidelity(agreement=0.996, count=1000, interval=wilson(0.996, 1000))
    assert parity(ParityGate(), fidelity).passed
    result = parity(ParityGate(confident=True), fidelity)
    assert not result.passed
    assert result.bound == "≥ 0.995 with 95 % confidence"
    data, found = rows(["angry"] * 90 + ["calm"] * 10), scores(*[1] * 100)
    [loose] = judge(MetricGate(name="accuracy", max=0.95), data, found)
    [strict] = judge(MetricGate(name="accuracy", max=0.94, confident=True), data, found)
    assert (loose.passed, strict.passed) == (True, False)


@pytest.mark.parametrize("written", [["calm", "angry", "angry", "calm"], ["0", "1", "1", "0"]], ids=["names", "ids"])
def test_labels_are_written_by_name_or_by_id(written: list[str]) -> None:
    [result] = judge(MetricGate(name="accuracy", min=0.7), rows(written), scores(0, 1, 0, 0))
    assert (result.name, result.value, result.passed) == ("accuracy", 0.75, True)


def test_a_label_that_the_model_does_not_know_fails_every_metric_and_is_named() -> None:
    [result] = judge(MetricGate(name="ece", max=0.5), rows(["calm", "furious"]), scores(0, 1))
    assert not result.passed
    assert result.value is None
    assert "furious" in (result.detail or "")
    assert "calm, angry" in (result.detail or "")


@pytest.mark.parametrize(("name", "bounds", "passed"), [
    ("accuracy", {"max_drop": 0.25}, True),
    ("accuracy", {"max_drop": 0.2}, False),
    ("accuracy", {"min": 0.75, "max_drop": 0.2}, False),
    ("accuracy", {"max": 0.5}, False),
])  # fmt: skip
def test_a_drop_is_measured_against_pytorch_on_the_same_data(
    name: Literal["accuracy"], bounds: dict[str, float], passed: bool
) -> None:
    data = rows(["calm", "angry", "angry", "calm"])
    results = judge(MetricGate(name=name, **bounds), data, scores(0, 1, 0, 0), scores(0, 1, 1, 0))
    assert len(results) == len(bounds)
    assert all(result.passed for result in results) is passed


def test_a_calibration_error_that_falls_is_no_drop() -> None:
    data = rows(["calm", "angry"])
    sure = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    [better] = judge(MetricGate(name="ece", max_drop=0.0), data, sure, scores(0, 1))
    [worse] = judge(MetricGate(name="ece", max_drop=0.1), data, scores(0, 1), sure)
    assert better.passed
    assert not worse.passed
    assert worse.value == pytest.approx(0.2, abs=1e-6)


def sliced() -> tuple[Rows, Floats]:
    labels = ["angry"] * 40 + ["calm"] * 40 + ["calm"] * 5
    return rows(labels, ["mail"] * 40 + ["chat"] * 40 + ["rare"] * 5), scores(*[1] * 40, *[0] * 30, *[1] * 10, *[1] * 5)


def test_a_star_means_every_slice_of_enough_rows() -> None:
    data, found = sliced()
    results = judge(MetricGate(name="accuracy", slice="*", min=0.8), data, found)
    assert {result.name: result.value for result in results} == {
        "accuracy[source=chat]": 0.75,
        "accuracy[source=mail]": 1.0,
    }
    assert [result.passed for result in results] == [False, True]


@pytest.mark.parametrize(("wanted", "count"), [("source", 2), ("source=mail", 1)])
def test_a_slice_is_asked_for_by_column_or_by_value(wanted: str, count: int) -> None:
    data, found = sliced()
    assert len(judge(MetricGate(name="accuracy", slice=wanted, min=0.0), data, found)) == count


def test_min_rows_says_how_large_a_slice_must_be() -> None:
    data, found = sliced()
    results = judge(MetricGate(name="accuracy", slice="*", min=0.8, min_rows=5), data, found)
    assert [(result.name, result.value) for result in results] == [
        ("accuracy[source=rare]", 0.0),
        ("accuracy[source=chat]", 0.75),
        ("accuracy[source=mail]", 1.0),
    ]


def test_the_gap_between_slices_names_the_worst_and_the_best() -> None:
    data, found = sliced()
    [result] = [
        result
        for result in judge(MetricGate(name="accuracy", slice="source", max_gap=0.2), data, found)
        if "gap" in result.name
    ]
    assert (result.name, result.value, result.passed) == ("accuracy gap[source]", 0.25, False)
    assert result.detail == "worst source=chat 0.7500 of 40 rows, best source=mail 1.0000"
    assert result.interval is not None
    assert result.interval.low < 0.25 < result.interval.high
    assert result.examples == (71, 72, 73, 74, 75)


def test_a_gap_of_errors_is_the_worst_less_the_best() -> None:
    data, found = sliced()
    result = judge(MetricGate(name="brier", slice="source", max_gap=0.1), data, found)[-1]
    assert result.value == pytest.approx(0.15, abs=1e-6)
    assert "worst source=chat" in (result.detail or "")


def test_an_engine_that_breaks_one_slice_fails_at_that_slice_though_it_agrees_overall() -> None:
    truth = [0, 1] * 2000
    source = ["mail"] * 3960 + ["chat"] * 40
    original = scores(*truth)
    broken = original.copy()
    broken[3960:3976] = broken[3960:3976, ::-1]
    data = rows(["angry" if label else "calm" for label in truth], source)
    assert parity(ParityGate(), compare(broken, original, model())).passed
    results = judge(MetricGate(name="accuracy", slice="*", max_drop=0.05), data, broken, original)
    assert [(result.name, result.passed) for result in results] == [
        ("accuracy[source=chat] drop", False),
        ("accuracy[source=mail] drop", True),
    ]
    assert sentence(results).startswith(
        "accuracy[source=chat] drop is 0.4 [0.2744, 0.55], wanted ≤ 0.05 (PyTorch has 1.0000"
    )


def test_a_gap_needs_two_slices() -> None:
    data = rows(["calm"] * 40, ["mail"] * 40)
    [result] = judge(MetricGate(name="accuracy", slice="source", max_gap=0.1), data, scores(*[0] * 40))
    assert not result.passed
    assert "source=mail; a gap needs two" in (result.detail or "")


def test_a_drop_has_a_paired_interval() -> None:
    data = rows(["calm", "angry"] * 100)
    right = scores(*[0, 1] * 100)
    worse = right.copy()
    worse[:10] = worse[:10, ::-1]
    [same] = judge(MetricGate(name="f1", max_drop=0.01), data, right, right)
    assert same.interval is not None
    assert (same.interval.low, same.interval.high) == (0.0, 0.0)
    [drop] = judge(MetricGate(name="f1", max_drop=0.01), data, worse, right)
    assert drop.value == pytest.approx(0.05, abs=1e-3)
    assert drop.interval is not None
    assert 0 < drop.interval.low < 0.05 < drop.interval.high < 0.1


def test_examples_are_numbered_as_the_data_is_when_it_was_thinned() -> None:
    data = Rows(texts=("x",) * 3, labels=("calm", "angry", "calm"), numbers=(1, 11, 21))
    [result] = judge(MetricGate(name="accuracy", min=1), data, scores(0, 0, 1))
    assert result.examples == (11, 21)


SEVERAL: dict[str, Any] = {"labels": ("a", "b", "c"), "dimensions": 3, "activation": "sigmoid"}


def test_several_labels_of_a_text_are_separated_by_a_bar() -> None:
    found = np.array([[0.9, 0.9, 0.1], [0.1, 0.8, 0.2], [0.1, 0.1, 0.2]], dtype=np.float32)
    data = rows(["a|b", "b | 2", ""])
    values = {name: judge(MetricGate(name=name), data, found, **SEVERAL)[0].value for name in ("f1_micro", "accuracy")}
    assert values["f1_micro"] == pytest.approx(2 * 3 / (3 + 4), abs=1e-6)
    assert values["accuracy"] == pytest.approx(2 / 3, abs=1e-6)


def test_a_metric_of_single_labels_fails_where_there_are_several_and_names_those_that_fit() -> None:
    found = np.array([[0.9, 0.9, 0.1]], dtype=np.float32)
    [result] = judge(MetricGate(name="mcc", min=0), rows(["a|b"]), found, **SEVERAL)
    assert not result.passed
    assert "use accuracy, f1, f1_micro, auc" in (result.detail or "")


def test_pairs_of_embeddings_are_held_to_their_rank_correlation() -> None:
    angles = np.array([0.1, 0.5, 1.0, 1.5])
    first = np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (4, 1))
    second = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = np.concatenate([first, second])
    kind = {"task": "feature-extraction", "labels": ()}
    [result] = judge(MetricGate(name="spearman", min=0.9), rows(["5", "4.5", "1", "0"]), found, **kind)
    assert (result.value, result.passed) == (1.0, True)
    [turned] = judge(MetricGate(name="spearman", min=0.9), rows(["0", "1", "2", "3"]), found, **kind)
    assert (turned.value, turned.passed) == (-1.0, False)
    [words] = judge(MetricGate(name="spearman", min=0.9), rows(["like", "1", "2", "3"]), found, **kind)
    assert "'like'" in (words.detail or "")
    [lone] = judge(MetricGate(name="spearman", min=0.9), rows(["0", "1", "2", "3"]), first, **kind)
    assert "textPair" in (lone.detail or "")


def test_an_area_that_is_not_defined_fails() -> None:
    [result] = judge(MetricGate(name="auc", min=0.1), rows(["calm"] * 4), scores(0, 0, 1, 0))
    assert not result.passed
    assert result.value is None
    assert "all of one kind" in (result.detail or "")


@pytest.mark.parametrize("wanted", ["source=rare", "language"])
def test_a_slice_that_can_not_be_judged_fails(wanted: str) -> None:
    data, found = sliced()
    [result] = judge(MetricGate(name="accuracy", slice=wanted, min=0.1), data, found)
    assert not result.passed
    assert result.value is None


def test_a_metric_without_a_bound_is_only_reported() -> None:
    [result] = judge(MetricGate(name="f1"), rows(["calm", "angry"]), scores(0, 1))
    assert result.passed
    assert result.value == 1.0


@pytest.mark.parametrize("changes", [
    {"task": "feature-extraction"},
    {"task": "token-classification"},
    {"task": "text-generation"},
])  # fmt: skip
def test_metrics_that_make_no_sense_for_the_model_fail(changes: dict[str, Any]) -> None:
    [result] = judge(MetricGate(name="accuracy", min=0.1), rows(["calm", "angry"]), scores(0, 1), **changes)
    assert not result.passed
    assert result.detail


def test_the_sentence_names_each_failed_gate_with_its_figure_and_bound() -> None:
    data, found = sliced()
    results = judge(MetricGate(name="accuracy", slice="*", min=0.8), data, found)
    assert sentence(results) == (
        "accuracy[source=chat] is 0.75 [0.5981, 0.8581], wanted ≥ 0.8 "
        "(the worst of 2 slices; 40 rows; for example rows 71, 72, 73, 74, 75)"
    )
