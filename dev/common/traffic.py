"""What users of a router saw: who answered, how fast, and what failed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dev.common.follow import Stage

CHANGE_SECONDS = 2.0
"""How long after the operator's decision a change of weights may take to reach every router."""


@dataclass(frozen=True)
class Answer:
    """One request: when it was sent and ended (Unix seconds), who answered, and with what (`OK`, or the failure's code)."""

    sent: float
    ended: float
    revision: str | None
    code: str

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.sent

    @property
    def failed(self) -> bool:
        """Whether it failed."""
        return self.code != "OK"


@dataclass(frozen=True)
class Share:
    """The part of the requests that a revision answered during a stage, in percent; `error` is its standard error."""

    wanted: int
    seen: float
    error: float
    requests: int


def failed(answers: Iterable[Answer]) -> list[Answer]:
    """Those that failed."""
    return [answer for answer in answers if answer.failed]


def shares(answers: Sequence[Answer], stages: Iterable[Stage]) -> list[Share]:
    """What the routers did in each stage, counted once the change must have reached all of them."""
    found = []
    for stage in stages:
        during = [a for a in answers if stage.since + CHANGE_SECONDS <= a.sent < stage.until]
        if not during:
            continue
        part = sum(1 for a in during if a.revision == stage.revision) / len(during)
        error = math.sqrt(stage.weight / 100 * (1 - stage.weight / 100) / len(during))
        found.append(Share(stage.weight, 100 * part, 100 * error, len(during)))
    return found


def rollback_seconds(answers: Sequence[Answer], canary: str, is_bad: Callable[[Answer], bool]) -> float | None:
    """Seconds from the end of the canary's first bad answer to the end of its last answer; None where none was bad."""
    its = [answer for answer in answers if answer.revision == canary]
    bad = [answer.ended for answer in its if is_bad(answer)]
    return max(answer.ended for answer in its) - min(bad) if bad else None
