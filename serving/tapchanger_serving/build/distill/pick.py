"""Which of the teacher's layers a student has, and whether it would be smaller. Imports no framework."""

from __future__ import annotations

from pathlib import Path

from tapchanger_serving.build.failures import DISTILL_FIELD, StepError
from tapchanger_serving.build.files import read_json
from tapchanger_serving.contract.distill import Distill

_COUNTS = ("num_hidden_layers", "n_layers")
_LAYERS_FIELD = f"{DISTILL_FIELD}.layers"


def require_smaller(checkpoint: Path, wanted: Distill) -> None:
    """Raises `DistillInvalid` where config.json says already that no student could be smaller."""
    config = read_json(checkpoint, "config.json")
    count = next((config[name] for name in _COUNTS if isinstance(config.get(name), int)), None)
    if count is not None:
        picked_layers(count, wanted.layers)


def picked_layers(teacher: int, student: int | None) -> tuple[int, ...]:
    """Which of the teacher's layers, from 0, the student begins with: spread evenly, the first and the last among them.

    By default every second one. Of 12 layers these are 0, 2, 4, 7, 9 and 11, as DistilBERT took them (Sanh et al. 2019).
    Raises `DistillInvalid` where the student would not be smaller.
    """
    count = student or (teacher + 1) // 2
    if count >= teacher:
        raise StepError(
            "DistillInvalid",
            f"the model has {_layers(teacher)}, and its student would have {count}"
            if student
            else f"the model has {_layers(teacher)}, of which none can be left out",
            field=_LAYERS_FIELD if student else DISTILL_FIELD,
            remedy=_remedy(teacher),
        )
    if count == 1:
        return (0,)
    return tuple(round(index * (teacher - 1) / (count - 1)) for index in range(count))


def _remedy(teacher: int) -> str:
    if teacher == 1:
        return "leave out distill for this model"
    numbers = "1" if teacher == 2 else f"a number from 1 to {teacher - 1}"
    return f"write {numbers}, or leave it out for {(teacher + 1) // 2}"


def _layers(count: int) -> str:
    return f"{count} layer{'s' if count > 1 else ''}"
