"""Conditions, with transition times that change only when the status does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from tapchanger_operator.api.base import timestamp
from tapchanger_operator.api.status import Condition

_LONGEST_MESSAGE: Final = 2000

Truth = Literal["True", "False", "Unknown"]


def condition(kind: str, status: Truth, reason: str, message: str = "") -> Condition:
    """A condition whose generation and time are filled in by :func:`merged`."""
    return Condition(type=kind, status=status, reason=reason, message=message[:_LONGEST_MESSAGE])


def truth(value: bool) -> Truth:
    """`True` or `False` as conditions have it."""
    return "True" if value else "False"


def merged(before: Sequence[Condition], now: Iterable[Condition], generation: int, time: float) -> list[Condition]:
    """`now` with `generation`, keeping the transition time of each condition whose status did not change."""
    known = {c.type: c for c in before}
    result = []
    for fresh in now:
        old = known.get(fresh.type)
        since = old.last_transition_time if old and old.status == fresh.status else timestamp(time)
        result.append(fresh.model_copy(update={"observed_generation": generation, "last_transition_time": since}))
    return result
