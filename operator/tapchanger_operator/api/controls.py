"""How people steer a rollout: annotations on a TransformerDeployment, set with kubectl or with the `tapchanger` command.

| annotation | value | effect |
|---|---|---|
| `tapchanger.dev/pause` | `[reason]` | while it is there, no canary is moved on or promoted; rollbacks go on |
| `tapchanger.dev/promote` | `REVISION [reason]` | the canary gets all requests at once |
| `tapchanger.dev/skip` | `REVISION/STEP reason` | the step (counted from 1) is passed without a verdict |
| `tapchanger.dev/resume` | `REVISION/STEP [reason]` | a step that could not be decided in time starts anew |
| `tapchanger.dev/abort` | `REVISION [reason]` | the canary is rolled back; during a watch, the previous revision returns |
| `tapchanger.dev/retry` | `REVISION [reason]` | a revision that was rolled back is tried again |
| `tapchanger.dev/retrain` | `[reason]` | a run of `spec.retraining` is started (`status.retraining.answers`) |
| `tapchanger.dev/retrained` | `RUN succeeded [reason]`, `RUN failed [reason]` | the service that a webhook told ends its run |

All but `pause` are orders: each value is carried out once, and `status.controls` says what came of it. To give the
same order again, remove the annotation first or change its reason. An order names its revision, so that one which
comes late never hits a revision that it was not meant for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from tapchanger_operator.api.base import GROUP

Order = Literal["promote", "skip", "resume", "abort", "retry"]

PAUSE: Final = f"{GROUP}/pause"
ORDERS: Final[tuple[Order, ...]] = ("promote", "skip", "resume", "abort", "retry")
"""In the order in which they are carried out when several come at once."""
RetrainingOrder = Literal["retrain", "retrained"]
RETRAINING_ORDERS: Final[tuple[RetrainingOrder, ...]] = ("retrain", "retrained")
"""These are about no revision; :mod:`tapchanger_operator.decide.retraining` carries them out."""
NEEDS_STEP: Final = frozenset({"skip", "resume"})
NEEDS_REASON: Final = frozenset({"skip"})
BY_SUFFIX: Final = "-by"
"""`tapchanger.dev/promote-by` names who set `tapchanger.dev/promote`; the chart's admission policy writes it."""

_VALUE: Final = re.compile(
    r"(?P<revision>[0-9a-f]{4,64})(?:/(?P<step>0|[1-9][0-9]{0,3}))?(?:\s+(?P<reason>.*))?", re.DOTALL
)


@dataclass(frozen=True)
class Command:
    """An order as it was given. `step` counts from 1; 0 is the mirroring before the first."""

    order: Order
    revision: str
    step: int | None
    reason: str


def annotation(order: Order | RetrainingOrder) -> str:
    """The annotation that gives an order."""
    return f"{GROUP}/{order}"


def parse(order: Order, value: str) -> Command:
    """An order's annotation taken apart. Raises ValueError with what to write instead."""
    match = _VALUE.fullmatch(value.strip())
    wanted = example(order)
    if match is None:
        raise ValueError(f"{annotation(order)} is {value!r}; write {wanted}")
    step, reason = match["step"], (match["reason"] or "").strip()
    if (step is not None) != (order in NEEDS_STEP):
        raise ValueError(f"{annotation(order)} is {value!r}; write {wanted}")
    if order in NEEDS_REASON and not reason:
        raise ValueError(f"{annotation(order)} is {value!r} without a reason; write {wanted}")
    return Command(order, match["revision"], int(step) if step is not None else None, reason)


def render(command: Command) -> str:
    """The value of the annotation that gives `command`."""
    step = f"/{command.step}" if command.step is not None else ""
    return f"{command.revision}{step} {command.reason}".strip()


def example(order: Order) -> str:
    """What to write for an order."""
    step = "/STEP" if order in NEEDS_STEP else ""
    reason = " reason" if order in NEEDS_REASON else " [reason]"
    return f"REVISION{step}{reason}"


def given(annotations: Mapping[str, str]) -> dict[Order, str]:
    """The orders among an object's annotations, by name."""
    return {order: annotations[annotation(order)] for order in ORDERS if annotation(order) in annotations}
