"""What clocks that differ take away from a blame.

Waiting and the network are what is left between a router's clock and a server's: where a server's node is ahead, its requests
seem to wait longer and to come back sooner by as much, and the other way round where it lags. So both are known only up to the
difference. The whole of a request is the router's own measure, and the work the server's; neither depends on two clocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tapchanger_operator.api.analysis import BlameStage
from tapchanger_operator.decide.explain import duration
from tapchanger_serving.contract.windows import ClockSkew, RevisionWindow

BETWEEN: Final[frozenset[BlameStage]] = frozenset({"Queue", "Network"})
"""The parts that two clocks measure."""
SMALLEST: Final = 0.001
"""Seconds that are worth a word."""


@dataclass(frozen=True)
class Doubt:
    """By how many seconds waiting and network may be wrong, and whose clock it is."""

    seconds: float = 0.0
    node: str = ""
    ahead: bool = True

    @property
    def message(self) -> str:
        """In words; empty where clocks agree."""
        if not self.seconds:
            return ""
        which = "ahead of" if self.ahead else "behind"
        return (
            f"the clock of node {self.node} is {duration(self.seconds)} {which} the routers', "
            "by which waiting and network are wrong"
        )


def doubt(skews: Sequence[ClockSkew], *windows: RevisionWindow) -> Doubt:
    """The largest certain difference among the nodes that answered; of the slow requests any may have been there."""
    nodes = {node.node for window in windows for node in window.nodes}
    found = [skew for skew in skews if skew.node in nodes and abs(skew.seconds) >= SMALLEST]
    if not found:
        return Doubt()
    worst = max(found, key=lambda skew: abs(skew.seconds))
    return Doubt(abs(worst.seconds), worst.node, worst.seconds > 0)


def certain(parts: Mapping[BlameStage, float], about: Doubt) -> dict[BlameStage, float]:
    """The seconds of each part that no clock explains."""
    return {
        part: max(0.0, seconds - about.seconds) if part in BETWEEN and seconds > 0 else seconds
        for part, seconds in parts.items()
    }
