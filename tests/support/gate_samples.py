"""Small models and labelled rows for tests of the gates."""

from __future__ import annotations

from typing import Any

import numpy as np

from tapchanger_serving.build.answers import Floats
from tapchanger_serving.build.dataset import Rows
from tapchanger_serving.build.exported import Exported
from tapchanger_serving.build.gates.evaluation import Examination, evaluation
from tapchanger_serving.contract.gates import DatasetSource, EvaluationGate, MetricGate
from tapchanger_serving.contract.messages import GateResult

LABELS = ("calm", "angry")


def model(**changes: Any) -> Exported:
    """A classifier of two labels."""
    fields: dict[str, Any] = {
        "task": "text-classification", "inputs": ("input_ids",), "output": "logits", "dimensions": 2, "max_tokens": 64,
        "max_batch_size": 8, "labels": LABELS, "parameters": 1,
    }  # fmt: skip
    return Exported(**(fields | changes))


def rows(labels: list[str], source: list[str] | None = None) -> Rows:
    """Labelled rows, with a slice column if `source` is given."""
    return Rows(texts=("x",) * len(labels), labels=tuple(labels), slices={"source": tuple(source)} if source else {})


def scores(*predicted: int) -> Floats:
    """Scores of a model that predicts these labels with a confidence of 0.8."""
    return np.array([[0.2, 0.8] if label else [0.8, 0.2] for label in predicted], dtype=np.float32)


def judge(
    metric: MetricGate, data: Rows, found: Floats, reference: Floats | None = None, **changes: Any
) -> list[GateResult]:
    """What the gate finds."""
    gate = EvaluationGate(dataset=DatasetSource(uri="pvc://d/x.csv"), metrics=(metric,))
    examination = Examination(model(**changes), data)
    return evaluation(gate, lambda: examination.judged(found, found if reference is None else reference))
