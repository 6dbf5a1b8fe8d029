"""Each candidate beside PyTorch as soon as it is made, so that no other has to be in memory with the two."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final, Protocol, TypeVar

from tapchanger_serving.build import timing
from tapchanger_serving.build.answers import Floats
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.build.timing import Point, Runner
from tapchanger_serving.contract.messages import Shapes
from tapchanger_serving.engines.cpus import allowed_cpus
from tapchanger_serving.engines.text import Tensors

_BRIEF: Final = timing.Effort(min_rounds=5, max_rounds=30, seconds=0.5)
_BESIDE_TORCH: Final = timing.Effort(min_rounds=7, max_rounds=60, seconds=1.0)
_TORCH: Final = -1
_SHORT: Final = 16

Taken = Mapping[int, Sequence[float]]
"""Seconds of every call by threads."""


@dataclass(frozen=True, slots=True)
class Heat:
    """One candidate's times: of a full batch at the reference point, with PyTorch's in the same turns, of one text as long, and
    of one short text.
    """

    many: Taken
    single: Taken
    short: Taken
    torch: Sequence[float]

    PARTS: ClassVar[int] = 3

    @property
    def parts(self) -> tuple[Taken, Taken, Taken]:
        """Its own times."""
        return self.many, self.single, self.short

    def without_losers(self, noise: float) -> Heat:
        """Only the numbers of threads that are the fastest, up to a share of `noise`, with the full batch or the short text."""
        kept = _fastest(self.many, noise) | _fastest(self.short, noise)
        many, single, short = ({n: seconds for n, seconds in part.items() if n in kept} for part in self.parts)
        return Heat(many, single, short, self.torch)


def _fastest(taken: Taken, noise: float) -> set[int]:
    typical = {threads: timing.undisturbed(seconds) for threads, seconds in taken.items()}
    return {threads for threads, seconds in typical.items() if seconds <= (1 + noise) * min(typical.values())}


@dataclass(frozen=True)
class Heats:
    """Who candidates are timed beside, and with what: `pytorch` gives it on a number of threads."""

    pytorch: Callable[[int], Threaded]
    texts: Encoded
    shapes: Shapes

    @property
    def reference(self) -> Point:
        """The point at which candidates are compared with PyTorch."""
        return timing.reference_point(self.shapes)

    @cached_property
    def batch(self) -> Tensors:
        """A full batch at the reference point."""
        return timing.full_batch(self.texts, *self.reference)

    @cached_property
    def _torch(self) -> Runner:
        return with_best_threads(self.pytorch, self.batch).run

    def hold(self, runners: Mapping[int, Runner]) -> Heat:
        """One candidate's ways to run, by threads, beside PyTorch."""
        many = timing.interleave({**runners, _TORCH: self._torch}, self.batch, _BESIDE_TORCH)
        torch = many.pop(_TORCH)

        def one(tokens: int) -> Taken:
            return timing.interleave(runners, timing.full_batch(self.texts, 1, tokens), _BRIEF)

        tokens = self.reference[1]
        return Heat(many, one(tokens), one(min(_SHORT, tokens)), torch)


class Threaded(Protocol):
    """Something that runs on a fixed number of threads."""

    def run(self, feeds: Tensors) -> Floats:
        """One forward pass."""
        ...


ThreadedT = TypeVar("ThreadedT", bound=Threaded)


def with_best_threads(make: Callable[[int], ThreadedT], feeds: Tensors) -> ThreadedT:
    """PyTorch gets the same chance as the engines, so that its speed is a fair baseline; all cores (0) win a draw."""
    every = make(0)
    if allowed_cpus() == 1:
        return every
    single = make(1)
    taken = timing.interleave({"every": every.run, "single": single.run}, feeds, _BRIEF)
    return single if timing.undisturbed(taken["single"]) < timing.undisturbed(taken["every"]) else every
