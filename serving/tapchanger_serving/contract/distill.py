"""Distillation: a smaller student that learns the model's answers, as the spec asks for it and as the build tells of it."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import ConfigDict, Field, field_validator

from tapchanger_serving.contract.base import Message
from tapchanger_serving.contract.duration import seconds
from tapchanger_serving.contract.gates import TextSource

DISTILL: Final = (
    "Train a smaller student on these texts, labelled or not, with the model as its teacher. The student's engines are "
    "candidates like all others: one is chosen only if it passes every gate and is faster. By default there is none."
)
_LONGEST = 24 * 3600
DURATION_HELP: Final = "write a time from 1s to 24h, such as 30m or 1h30m"

Budget = Annotated[str, Field(pattern=r"^([0-9]{1,5}(s|m|h))+$", max_length=16)]
"""A length of time in whole seconds, minutes or hours: `90s`, `30m`, `1h30m`."""


class Distill(Message):
    """How a student is trained. Everything but the data has a default.

    The student is the teacher with some of its layers (Sanh et al. 2019, DistilBERT). It is trained with AdamW, a warm-up
    over the first tenth of the steps and linear decay.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "duration(self.maxDuration) >= duration('1s') && duration(self.maxDuration) <= duration('24h')",
                    "message": f"maxDuration: {DURATION_HELP}",
                }
            ]
        }
    )

    dataset: TextSource = Field(
        description="Texts like those that will be served. Labels are not read; rows that are evaluation data too are left out."
    )
    layers: int | None = Field(
        default=None, ge=1, le=1000, description="Layers of the student; by default every second one of the model's."
    )
    epochs: int = Field(default=3, ge=1, le=1000, description="How often the texts are gone through.")
    max_duration: Budget = Field(
        default="30m", description="Training ends after this time; the student is the best that there was until then."
    )
    learning_rate: float = Field(default=1e-4, gt=0, le=1, description="The highest learning rate, after the warm-up.")
    batch_size: int = Field(default=32, ge=1, le=4096, description="Texts per step of the optimizer.")
    temperature: float = Field(
        default=2.0, gt=0, le=100, description="By which the logits of teacher and student are divided while training."
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Of the order of the texts, the split and dropout.")

    @field_validator("max_duration")
    @classmethod
    def _is_within_bounds(cls, value: str) -> str:
        if not 1 <= seconds(value) <= _LONGEST:
            raise ValueError(DURATION_HELP)
        return value

    @property
    def max_seconds(self) -> float:
        """`max_duration` in seconds."""
        return seconds(self.max_duration)


class Epoch(Message):
    """How the student stood after one pass over the texts; number 0 is the student before any training.

    Losses are means per text, or per token where tokens are classified. `agreement` is the share of held-out texts or
    tokens with the teacher's label, `cosine` the mean cosine of embeddings. `complete` is False where the time was over
    before the pass was.
    """

    number: int
    train_loss: float | None = None
    held_out_loss: float
    agreement: float | None = None
    cosine: float | None = None
    seconds: float
    complete: bool = True


class Distillation(Message):
    """How the student came about.

    `layers` are the teacher's layers, from 0, that the student began with. Of `rows` texts, `in_evaluation` were left out since
    they are evaluation data too, exactly or nearly, and `duplicates` since they occur more than once; of the rest, `held_out`
    chose the epoch and all others were trained on. `best` is the epoch whose weights the student has.
    """

    teacher_layers: int
    teacher_parameters: int
    layers: tuple[int, ...]
    parameters: int
    rows: int
    in_evaluation: int
    duplicates: int
    held_out: int
    trained_on: int
    epochs: tuple[Epoch, ...]
    best: int
    asked_epochs: int
    stopped_by_budget: bool
    seconds: float

    @property
    def summary(self) -> str:
        """The record in one sentence, without the stop at its end."""
        best = next((epoch for epoch in self.epochs if epoch.number == self.best), None)
        told = [
            f"a student with {len(self.layers)} of {self.teacher_layers} layers and {_million(self.parameters)} of "
            f"{_million(self.teacher_parameters)} million parameters, trained on {self.trained_on:,} texts, "
            f"{self.seconds:.0f} s in all"
        ]
        if best is not None:
            alike = (
                f"mean cosine {best.cosine:.5f}" if best.cosine is not None else f"label agreement {best.agreement:.4f}"
            )
            which = (
                f"epoch {best.number} of {self.asked_epochs} was"
                if best.number
                else "it was before any training that it was"
            )
            told.append(f"{which} closest to the model on {self.held_out:,} held-out texts ({alike})")
        if self.stopped_by_budget:
            told.append("the time was over before all epochs were done")
        if self.in_evaluation:
            told.append(f"{self.in_evaluation:,} texts were left out since they are evaluation data too")
        return "; ".join(told)


def _million(count: int) -> str:
    return f"{count / 1e6:.3g}"
