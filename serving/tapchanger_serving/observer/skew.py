"""How far nodes' clocks certainly differ from the routers', told by requests of which both spoke.

A server works after the router got a request and before the router is done with the answer, so its clock is ahead by θ with
end(server) - end(router) ≤ θ ≤ begin(server) - start(router): the bounds by which NTP judges a peer (RFC 5905, section 8).
Of many requests the tightest bounds count. Where they leave 0 out, the clocks differ at least by what is between.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

GENERATION_SECONDS: Final = 60.0
MOST_NODES: Final = 1_024
NOTABLE_SECONDS: Final = 0.01
"""From here on it is worth a word: such a difference moves time from one part of a request to another."""


@dataclass(slots=True)
class Bounds:
    """Between which seconds a clock is ahead (behind, where negative)."""

    low: float = float("-inf")
    high: float = float("inf")

    def narrow(self, low: float, high: float) -> None:
        """Take what one request says."""
        self.low, self.high = max(self.low, low), min(self.high, high)

    def certain(self) -> float:
        """The smallest difference that explains all requests; 0 for clocks that may agree. Of contradicting bounds, as
        routers on nodes of different clocks give them, the larger one.
        """
        return max((max(self.low, 0.0), min(self.high, 0.0)), key=abs)


@dataclass
class Clocks:
    """Bounds by node, of the last one to two minutes."""

    _young: dict[str, Bounds] = field(default_factory=dict)
    _old: dict[str, Bounds] = field(default_factory=dict)
    _since: float = float("-inf")

    def compare(self, node: str, server: tuple[float, float], router: tuple[float, float], now: float) -> None:
        """Take one request: when the server began and ended by its clock, and the router by its own (Unix seconds)."""
        self.age(now)
        bounds = self._young.get(node)
        if bounds is None:
            if len(self._young) >= MOST_NODES:
                return
            bounds = self._young[node] = Bounds()
        bounds.narrow(server[1] - router[1], server[0] - router[0])

    def age(self, now: float) -> None:
        """Forget what is older than two minutes: clocks are put right."""
        if now - self._since >= GENERATION_SECONDS:
            self._old = self._young if now - self._since < 2 * GENERATION_SECONDS else {}
            self._young, self._since = {}, now

    def skews(self) -> dict[str, float]:
        """By node the certain difference in seconds, positive for a clock that is ahead of the routers'."""
        found = {}
        for node in {*self._old, *self._young}:
            both = Bounds()
            for known in (self._old.get(node), self._young.get(node)):
                if known is not None:
                    both.narrow(known.low, known.high)
            found[node] = both.certain()
        return found
