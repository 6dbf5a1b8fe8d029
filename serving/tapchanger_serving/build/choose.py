"""Which engine to take, and how to say why."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tapchanger_serving.build.timing import Point, work
from tapchanger_serving.contract.messages import BUSY, Candidate, SmallChoice, engine_title

NOISE = 0.03
"""Differences in speed below this share decide nothing: the more precise engine is taken."""
BEHIND = 1.6
"""How many times slower than the fastest a way may be before it is not measured further."""
WORTH = 0.03
"""What a second engine for small batches must gain over the surface, as a share."""
WORTH_SOMEWHERE = 0.1
"""… or at one point of it."""

_PRECISE_FIRST = ("fp32", "fp16", "bf16", "int8", "fp8")


@dataclass(frozen=True)
class Way:
    """One way to run one candidate: its place in the list, the threads (0: all cores), and texts per second by point."""

    candidate: int
    threads: int
    speeds: Mapping[Point, float]


@dataclass(frozen=True)
class Arrangement:
    """How an engine runs: `small` takes batches of at most `tokens` tokens, `large` all others; None: `large` takes them all.

    `gain` is by how much two are faster than the best one alone, as a share of the geometric mean over the surface.
    """

    large: Way
    small: Way | None = None
    tokens: int = 0
    gain: float = 0.0

    def at(self, point: Point) -> Way:
        """Which of the two runs at a point."""
        return self.small if self.small is not None and work(point) <= self.tokens else self.large

    def speed(self, point: Point) -> float:
        """Texts per second at a point."""
        return self.at(point).speeds[point]


def fastest(ways: Iterable[Way]) -> dict[Point, float]:
    """The best speed at each point."""
    best: dict[Point, float] = {}
    for way in ways:
        for point, speed in way.speeds.items():
            best[point] = max(speed, best.get(point, 0.0))
    return best


def score(speeds: Mapping[Point, float], best: Mapping[Point, float]) -> float:
    """The geometric mean over all points of the speed as a share of the best one.

    A point that wasn't measured counts as if it were as little behind as it may be without being left out.
    """
    shares = [math.log(speeds.get(point, speed / BEHIND) / speed) for point, speed in best.items()]
    return math.exp(math.fsum(shares) / len(shares))


def preferred(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The measured candidates that passed, best first.

    Best has the highest score; among those within 3 % of it, the model itself before a student of it, then the most precise.
    """
    left = [candidate for candidate in candidates if candidate.passed and candidate.score is not None]
    order = []
    while left:
        highest = max(_score(candidate) for candidate in left)
        close = [candidate for candidate in left if _score(candidate) >= (1 - NOISE) * highest]
        best = min(close, key=_preference)
        order.append(best)
        left.remove(best)
    return order


def arrangements(candidate: int, ways: Sequence[Way]) -> list[Arrangement]:
    """How to run a candidate, best first and alone last: `ways` are its own and those that may take small batches for it."""
    own = [way for way in ways if way.candidate == candidate]
    best = fastest(ways)
    alone = max(own, key=lambda way: score(way.speeds, best))
    pairs = [pair for large in own for small in ways if small is not large for pair in _splits(small, large, alone)]
    worth = [pair for pair in pairs if _worth(pair, alone)]
    return [*sorted(worth, key=lambda pair: -pair.gain), Arrangement(alone)]


def _splits(small: Way, large: Way, alone: Way) -> Iterable[Arrangement]:
    """Every way to share the points between the two, with the border half-way between two of them."""
    points = sorted(alone.speeds, key=work)
    for below, above in itertools.pairwise(sorted({work(point) for point in points})):
        pair = Arrangement(large, small, math.isqrt(below * above))
        if all(point in pair.at(point).speeds for point in points):
            logs = math.fsum(math.log(pair.speed(point) / alone.speeds[point]) for point in points)
            yield replace(pair, gain=math.exp(logs / len(points)) - 1)


def _worth(pair: Arrangement, alone: Way) -> bool:
    """Whether it gains enough over all or at some point, and loses nowhere."""
    gains = [pair.speed(point) / speed - 1 for point, speed in alone.speeds.items()]
    return min(gains) >= -NOISE and (pair.gain >= WORTH or max(gains) >= WORTH_SOMEWHERE)


def explain(
    chosen: Candidate,
    candidates: Sequence[Candidate],
    torch_texts_per_second: float,
    small: SmallChoice | None = None,
    waited: float | None = None,
) -> str:
    """One sentence or two for the status: the figure that decided, and what was faster but fell."""
    speed = _speed(chosen)
    text = (
        f"{title(chosen)} gave {speed:.0f} texts/s, {speed / torch_texts_per_second:.2f} times PyTorch's "
        f"{torch_texts_per_second:.0f}, with {closeness(chosen)}"
    )
    if chosen.note:
        text += f" ({chosen.note})"
    if small is not None:
        text += f"; {_helper(small, chosen)} takes batches of up to {small.tokens} tokens"
    fallen = [
        f"{title(other)} ({_speed(other):.0f} texts/s, {closeness(other)})"
        for other in candidates
        if not other.passed and other.texts_per_second and _speed(other) > speed
    ]
    close = [other for other in candidates if other.passed and other is not chosen and _score(other) > _score(chosen)]
    students = [other for other in close if other.student_layers and not chosen.student_layers]
    coarse = [other for other in close if other not in students]
    if fallen:
        text += f"; faster, but failed a gate: {', '.join(fallen)}"
    for words, others in (("less precise", coarse), ("a student's", students)):
        if others:
            text += f"; within {NOISE:.0%} but {words}: {', '.join(map(title, others))}"
    if waited is not None and waited >= BUSY:
        text += f"; the node was busy: engines waited for a CPU {waited:.0%} of the time"
    return text


def _helper(small: SmallChoice, chosen: Candidate) -> str:
    on = f"on {small.threads} thread{'s' if small.threads > 1 else ''}" if small.threads else "on all cores"
    same = (small.runtime, small.precision) == (chosen.runtime, chosen.precision)
    return f"the same {on}" if same else f"{small.runtime} {small.precision} {on}"


def title(candidate: Candidate) -> str:
    """As :func:`engine_title`."""
    return engine_title(candidate)


def closeness(candidate: Candidate) -> str:
    """The parity figure in words."""
    if candidate.cosine is not None:
        return f"mean cosine {candidate.cosine:.5f}"
    if candidate.agreement is not None:
        return f"label agreement {candidate.agreement:.4f}"
    return "no parity figure"


def _preference(candidate: Candidate) -> tuple[bool, int, float]:
    return candidate.student_layers is not None, _PRECISE_FIRST.index(candidate.precision), -_score(candidate)


def _speed(candidate: Candidate) -> float:
    return candidate.texts_per_second or 0.0


def _score(candidate: Candidate) -> float:
    return candidate.score or 0.0
