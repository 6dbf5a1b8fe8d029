"""What an engine must show before it may serve, as the spec says it."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from tapchanger_serving.contract.base import Message

MetricName = Literal["accuracy", "f1", "f1_micro", "auc", "mcc", "brier", "ece", "entity_f1", "spearman"]
PerturbationKind = Literal["typos", "casing", "whitespace", "truncation", "noise", "paraphrase", "words"]

PERTURBATIONS: tuple[PerturbationKind, ...] = (
    "typos", "casing", "whitespace", "truncation", "noise", "paraphrase", "words",
)  # fmt: skip
LABEL_SEPARATOR = "|"
"""Stands between the labels of a text that has several."""
MIN_SLICE_ROWS = 30
CALIBRATION_DATA = (
    "Texts like those that will be served, on which int8 and fp8 engines find their ranges; "
    "without it these are the evaluation data or the built-in texts."
)
TEMPERATURE_SCALING = (
    "Text classification: fit a temperature on one half of the evaluation data, and divide the logits by it, "
    "so that scores are calibrated. Labels stay as they are."
)


class ParityGate(Message):
    """How closely the engine must answer like the PyTorch original.

    `min_agreement`: share of equal labels (classification tasks). `min_cosine`: smallest mean cosine similarity of
    embeddings (feature extraction).
    """

    min_agreement: float = Field(default=0.995, ge=0, le=1)
    min_cosine: float = Field(default=0.999, ge=0, le=1)
    confident: bool | None = Field(
        default=None, description="Hold the near end of the 95 % interval against the bound, not the figure."
    )


class TextSource(Message):
    """Texts: a CSV or JSON Lines file at `uri`, with the columns named here."""

    uri: str
    text: str = "text"
    text_pair: str | None = None


class DatasetSource(Message):
    """Labelled text: a CSV or JSON Lines file at `uri`, with the columns named here."""

    uri: str
    text: str = "text"
    text_pair: str | None = None
    label: str = "label"
    slices: tuple[str, ...] = ()


class MetricGate(Message):
    """A bound on one metric of the evaluation data."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "!has(self.maxGap) || (has(self.slice) && !self.slice.contains('='))",
                    "message": "maxGap compares the slices of a column: write slice: COLUMN or slice: '*'",
                }
            ]
        }
    )

    name: MetricName
    min: float | None = None
    max: float | None = None
    max_drop: float | None = Field(default=None, description="Most that it may be worse than PyTorch on the same rows.")
    max_gap: float | None = Field(
        default=None, ge=0, description="Largest difference between the best and the worst slice of a column."
    )
    slice: str | None = Field(
        default=None,
        max_length=256,
        description="COLUMN, COLUMN=VALUE, or '*' for every slice of every column that has enough rows.",
    )
    min_rows: int | None = Field(
        default=None, ge=1, description=f"Rows that a slice must have to be judged; by default {MIN_SLICE_ROWS}."
    )
    confident: bool | None = Field(
        default=None, description="Hold the near end of the 95 % interval against the bound, not the figure."
    )


class EvaluationGate(Message):
    """Evaluation data and the bounds that must hold on it."""

    dataset: DatasetSource
    metrics: tuple[MetricGate, ...] = Field(default=(), max_length=64)


class DataGate(Message):
    """Bounds on the evaluation data itself. All are shares of its rows, and all figures are in the report anyway."""

    max_duplicates: float | None = Field(
        default=None, ge=0, le=1, description="Rows whose text stands in an earlier row already, exactly or nearly."
    )
    max_leakage: float | None = Field(
        default=None, ge=0, le=1, description="Rows whose text stands in engine.calibrationData too, exactly or nearly."
    )
    max_label_noise: float | None = Field(
        default=None, ge=0, le=1, description="Rows whose label the model confidently contradicts."
    )
    max_personal_data: float | None = Field(
        default=None, ge=0, le=1, description="Rows with an e-mail address, phone or card number, IBAN or IP address."
    )
    min_class_share: float | None = Field(
        default=None, ge=0, le=1, description="Share of the rows that the model's rarest label has."
    )


class RobustnessGate(Message):
    """How many answers may flip when texts are perturbed. Classification of texts only."""

    max_flips: float | None = Field(
        default=None, ge=0, le=1, description="Largest share of answers that may change, for each kind."
    )
    kinds: tuple[PerturbationKind, ...] = Field(
        default=PERTURBATIONS,
        min_length=1,
        description="typos, casing, whitespace, truncation, noise (of characters), paraphrase (English contractions, numbers, "
        "openings) or words (the word with the largest effect is dropped or swapped with its neighbour).",
    )
    texts: int = Field(default=200, ge=10, le=2000, description="How many texts are perturbed.")


class Gates(Message):
    """Everything that an engine must show before it may serve."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "!has(self.data) || has(self.evaluation)",
                    "message": "data judges the evaluation data: write evaluation: {dataset: {uri: …}} too",
                }
            ]
        }
    )

    parity: ParityGate = ParityGate()
    evaluation: EvaluationGate | None = None
    data: DataGate | None = None
    robustness: RobustnessGate | None = None
