"""What step `distill` leaves for step `measure`: the student's graph, facts, tokenizer and configuration, and its record."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from tapchanger_serving.build.candidates import Bench, Recipe
from tapchanger_serving.build.places import Places
from tapchanger_serving.contract.distill import Distillation
from tapchanger_serving.contract.messages import BuildRequest

_RECORD = "distillation.json"


@dataclass(frozen=True, slots=True)
class Student:
    """A finished student: the folder with its graph, and how it came about."""

    folder: Path
    record: Distillation

    @property
    def layers(self) -> int:
        """How many layers it has."""
        return len(self.record.layers)


def begin(places: Places) -> Path:
    """A new folder for the student's files; whatever an earlier attempt left is gone."""
    part = _part(places)
    for folder in (places.student, part):
        shutil.rmtree(folder, ignore_errors=True)
    part.mkdir(parents=True)
    return part


def finish(places: Places, record: Distillation) -> Student:
    """Puts the folder into its place in one step, so that a student that is half written is never found."""
    (_part(places) / _RECORD).write_text(record.dumps(), encoding="utf-8")
    _part(places).rename(places.student)
    return Student(places.student, record)


def find(request: BuildRequest, places: Places) -> Student | None:
    """The student that the request asks for; None where it asks for none.

    Raises FileNotFoundError where step `distill` did not come to its end.
    """
    if request.distill is None:
        return None
    text = (places.student / _RECORD).read_text(encoding="utf-8")
    return Student(places.student, Distillation.model_validate_json(text))


def recipes(of_model: tuple[Recipe, ...], student: Student | None) -> tuple[Recipe, ...]:
    """What to try: engines of the model, and the same of the student if there is one."""
    if student is None:
        return of_model
    return *of_model, *(replace(recipe, student_layers=student.layers) for recipe in of_model)


def bench(of_model: Bench, recipe: Recipe, student: Student | None) -> Bench:
    """Where a recipe is made: the student's have its graph and a folder of their own."""
    if student is None or recipe.student_layers is None:
        return of_model
    return replace(of_model, exported=student.folder, work=of_model.work / "student")


def config(places: Places, recipe: Recipe, student: Student | None) -> Path:
    """The configuration of the model that a recipe starts from."""
    own = student is not None and recipe.student_layers is not None
    return (places.student if own else places.checkpoint) / "config.json"


def _part(places: Places) -> Path:
    return places.student.with_suffix(".part")
