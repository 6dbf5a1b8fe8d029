"""Where the time of requests went, in sums that merge: of all that the servers told of, and of the slow ones alone.

A server's span tells what it did with a request. Together with the router's span of the same request it also says how
long the user waited, so whether the request was slow or failed, and what is left for the network.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

MOST_NODES: Final = 32
"""How many nodes are told apart in one span of time; more than a revision has in one second."""


class Stage(NamedTuple):
    """What a server says of one request; `end` is Unix seconds, the parts are seconds.

    `queue` goes from the router's receipt to the beginning of the work, so it holds the way to the server. `tokens` and
    `rows` (texts in the batch) are 0, and `node` is empty, where the server doesn't tell.
    """

    end: float
    queue: float
    compute: float
    pre: float = 0.0
    post: float = 0.0
    tokens: int = 0
    rows: int = 0
    node: str = ""

    def rest(self, seconds: float) -> float:
        """What the server doesn't account for of a request that took `seconds`: the way back, and the client's reading."""
        return max(0.0, seconds - self.queue - self.pre - self.compute - self.post)


@dataclass(slots=True)
class Sums:
    """Sums of seconds over requests.

    `spans` requests make `queue`, `pre`, `compute`, `post` and `rows`; `counted` of them `tokens`; `joined` of them, those
    whose router's span is known too, `seconds` (what users waited) and `network`.
    """

    spans: int = 0
    queue: float = 0.0
    pre: float = 0.0
    compute: float = 0.0
    post: float = 0.0
    rows: int = 0
    counted: int = 0
    tokens: int = 0
    joined: int = 0
    seconds: float = 0.0
    network: float = 0.0

    def add(self, stage: Stage) -> None:
        """Count what a server told."""
        self.spans += 1
        self.queue += stage.queue
        self.pre += stage.pre
        self.compute += stage.compute
        self.post += stage.post
        self.rows += stage.rows
        if stage.tokens:
            self.counted += 1
            self.tokens += stage.tokens

    def join(self, stage: Stage, seconds: float) -> None:
        """Count what the router told of a request that was added before, or is added too."""
        self.joined += 1
        self.seconds += seconds
        self.network += stage.rest(seconds)

    def absorb(self, other: Sums) -> None:
        """Add all of `other`."""
        self.spans += other.spans
        self.queue += other.queue
        self.pre += other.pre
        self.compute += other.compute
        self.post += other.post
        self.rows += other.rows
        self.counted += other.counted
        self.tokens += other.tokens
        self.joined += other.joined
        self.seconds += other.seconds
        self.network += other.network


class Length(NamedTuple):
    """Requests of like length in tokens: how many, and what their users waited in sum (seconds)."""

    requests: int
    seconds: float


class Node(NamedTuple):
    """Requests that one node answered: how many, failed ones among them, and what their users waited in sum (seconds)."""

    requests: int
    failed: int
    seconds: float


def length_class(tokens: int) -> int:
    """The class of a request: class `c` holds those of more than 2^(c-1) and at most 2^c tokens."""
    return (tokens - 1).bit_length()


@dataclass(slots=True)
class Breakdown:
    """`slow` has the requests that took longer than a threshold (seconds) and did not fail, for each threshold that was
    watched; `lengths` (by :func:`length_class`) has those that did not fail; `nodes` has all that were joined.
    """

    every: Sums = field(default_factory=Sums)
    slow: dict[float, Sums] = field(default_factory=dict)
    lengths: dict[int, Length] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)

    def join(self, stage: Stage, seconds: float, *, failed: bool, thresholds: tuple[float, ...]) -> None:
        """Count a request of which server and router have told; `every` has got its `stage` by :meth:`Sums.add`."""
        self.every.join(stage, seconds)
        if stage.node in self.nodes or (stage.node and len(self.nodes) < MOST_NODES):
            _add_node(self.nodes, stage.node, Node(1, int(failed), seconds))
        if failed:
            return
        if stage.tokens > 0:
            _add_length(self.lengths, length_class(stage.tokens), Length(1, seconds))
        for threshold in thresholds:
            if seconds > threshold:
                slow = self.slow.setdefault(threshold, Sums())
                slow.add(stage)
                slow.join(stage, seconds)

    def absorb(self, other: Breakdown) -> None:
        """Add all of `other`."""
        self.every.absorb(other.every)
        for threshold, sums in other.slow.items():
            self.slow.setdefault(threshold, Sums()).absorb(sums)
        for kind, length in other.lengths.items():
            _add_length(self.lengths, kind, length)
        for name, node in other.nodes.items():
            _add_node(self.nodes, name, node)


def _add_length(into: dict[int, Length], kind: int, more: Length) -> None:
    requests, seconds = into.get(kind, (0, 0.0))
    into[kind] = Length(requests + more.requests, seconds + more.seconds)


def _add_node(into: dict[str, Node], name: str, more: Node) -> None:
    requests, failed, seconds = into.get(name, (0, 0, 0.0))
    into[name] = Node(requests + more.requests, failed + more.failed, seconds + more.seconds)
