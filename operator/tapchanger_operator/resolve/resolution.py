"""How far the spec is understood: its model, its build and its revision, or what stands in the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tapchanger_operator.api.enginebuild import EngineBuildSpec
from tapchanger_operator.api.hardware import HardwareStatus
from tapchanger_operator.api.status import ModelStatus
from tapchanger_operator.errors import OperatorError
from tapchanger_operator.resolve.identity import RevisionContent


@dataclass(frozen=True)
class Resolution:
    """What is known of the spec's content.

    Each part is known only after the one before: `model`, then `build` (name and spec), then `content`. `problem` is a
    UserError or Waiting that says why the next part is not known. `variants` has the same of each variant, by name.
    `hardware` is what is remembered of the nodes.
    """

    model: ModelStatus | None = None
    build: tuple[str, EngineBuildSpec] | None = None
    content: RevisionContent | None = None
    problem: OperatorError | None = None
    hardware: HardwareStatus | None = None
    variants: Mapping[str, Resolution] = field(default_factory=dict)


def sentence(message: str, remedy: str | None = None, field: str | None = None) -> str:
    """A problem in words: what is wrong, where, and what to do."""
    where = f"{field}: " if field else ""
    what_to_do = f"; {remedy}" if remedy else ""
    return f"{where}{message}{what_to_do}"
