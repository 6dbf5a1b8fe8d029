"""Gates: every bound is held against its figure, and what can't be evaluated fails."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

from tapchanger_serving.build import gates
from tapchanger_serving.build.answers import Fidelity, Floats
from tapchanger_serving.build.dataset import Rows
from tapchanger_serving.build.exported import Exported
from tapchanger_serving.contract.messages import DatasetSource, EvaluationGate, GateResult, MetricGate, ParityGate

LABELS = ("calm", "angry")


def model(**changes: Any) -> Exported:
    fields: dict[str, Any] = {
        "task": "text-classification", "inputs": ("input_ids",), "output": "logits", "dimensions": 2, "max_tokens": 64,
        "max_batch_size": 8, "labels": LABELS, "parameters": 1,
    }  # fmt: skip
    return Exported(**(fields | changes))


def rows(labels: list[str], source: list[str] | None = None) -> Rows:
    return Rows(texts=("x",) * len(labels), labels=tuple(labels), slices={"source": tuple(source)} if source else {})


def scores(*predicted: int) -> Floats:
    return np.array([[0.2, 0.8] if label else [0.8, 0.2] for label in predicted], dtype=np.float32)


def judge(
    metric: MetricGate, data: Rows, found: Floats, reference: Floats | None = None, **changes: Any
) -> list[GateResult]:
    gate = EvaluationGate(dataset=DatasetSource(uri="pvc://d/x.csv"), metrics=(metric,))
    return gates.evaluation(gate, model(**changes), data, found, found if reference is None else reference)


@pytest.mark.parametrize(("agreement", "passed"), [(0.995, True), (0.9949, False), (None, False)])
def test_label_agreement_is_held_against_its_bound(agreement: float | None, passed: bool) -> None:
    result = gates.parity(ParityGate(min_agreement=0.995), Fidelity(agreement=agreement))
    assert result.passed is passed
    assert result.bound == "≥ 0.995"


def test_embeddings_are_held_against_the_cosine_and_the_worst_text_is_told() -> None:
    result = gates.parity(ParityGate(), Fidelity(cosine=0.9985, worst_cosine=0.97))
    assert not result.passed
    assert result.value == 0.9985
    assert "0.97" in (result.detail or "")


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
    {"activation": "sigmoid"},
])  # fmt: skip
def test_metrics_that_make_no_sense_for_the_model_fail(changes: dict[str, Any]) -> None:
    [result] = judge(MetricGate(name="accuracy", min=0.1), rows(["calm", "angry"]), scores(0, 1), **changes)
    assert not result.passed
    assert result.detail


def test_the_sentence_names_each_failed_gate_with_its_figure_and_bound() -> None:
    data, found = sliced()
    results = judge(MetricGate(name="accuracy", slice="*", min=0.8), data, found)
    assert gates.sentence(results) == "accuracy[source=chat] is 0.75, wanted ≥ 0.8 (40 rows)"
