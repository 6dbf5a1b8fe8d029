"""What people are told when the nodes have become others."""

from __future__ import annotations

from tapchanger_operator.api import reasons
from tapchanger_operator.api.status import ModelStatus
from tapchanger_operator.decide.state import Change
from tapchanger_serving.contract.fit import described


def changes(before: ModelStatus | None, after: ModelStatus | None) -> tuple[Change, ...]:
    """The Event about hardware that a look at the nodes has found, given what status said before and says now."""
    if before is None or after is None or before.key != after.key:
        return ()
    old, new = before.inspection.hardware, after.inspection.hardware
    if old == new:
        return ()
    message = f"the nodes were {described(old)} and are {described(new)}: the engine for them is built and goes through a canary"
    return (Change("Normal", reasons.HARDWARE_CHANGED, message),)
