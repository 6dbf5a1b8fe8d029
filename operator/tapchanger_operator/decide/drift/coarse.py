"""The reference in few bins. Servers count in fine bins that are the same everywhere; here they are joined.

A signal with an order gets bins at quantiles of the reference, fine at both ends, where what is new shows first; one without
gets a bin for each common value. Shares are smoothed by half a text a bin, the reference being a sample as well.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any, Final

from tapchanger_serving.contract.drift import BY_NAME, LABEL, SCRIPTS, in_words

QUANTILES: Final = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
MOST_VALUES: Final = 12
"""Values without an order that have a bin of their own; the others share one."""
SMOOTHING: Final = 0.5
_HEAVY_END: Final = 0.05
"""An end bin with more than this of the reference gets another beyond it, for what the reference never had."""

Fine = Mapping[Any, int]
"""Counts by fine bin, or by value where there is no order."""


@dataclass(frozen=True)
class Coarse:
    """One signal of the reference: `counts` in each bin. With an order, bin k ends with fine bin `ends[k]`; without, it holds the
    value `ends[k]`, and one bin more holds all others.
    """

    signal: str
    ends: tuple[int | str, ...]
    counts: tuple[int, ...]

    @property
    def ordered(self) -> bool:
        """Whether the bins have an order."""
        return BY_NAME[self.signal].ordered

    @property
    def total(self) -> int:
        """Texts in all bins."""
        return sum(self.counts)

    @cached_property
    def shares(self) -> tuple[float, ...]:
        """The share of each bin, all above 0."""
        whole = self.total + SMOOTHING * len(self.counts)
        return tuple((count + SMOOTHING) / whole for count in self.counts)

    @cached_property
    def scores(self) -> tuple[float, ...]:
        """A number for each bin with mean 0 and variance 1: van der Waerden's normal scores where there is an order, else whether
        it is the most frequent value.
        """
        if self.ordered:
            raw, below = [], 0.0
            for share in self.shares:
                raw.append(NormalDist().inv_cdf(below + share / 2))
                below += share
        else:
            top = self.shares.index(max(self.shares))
            raw = [float(number == top) for number in range(len(self.shares))]
        mean = sum(p * x for p, x in zip(self.shares, raw, strict=True))
        spread = sum(p * (x - mean) ** 2 for p, x in zip(self.shares, raw, strict=True)) ** 0.5
        return tuple((x - mean) / max(spread, 1e-9) for x in raw)

    def binned(self, fine: Fine) -> tuple[int, ...]:
        """Counts in these bins of counts in fine ones, or of values."""
        found = [0] * len(self.counts)
        for value, count in fine.items():
            found[self._bin(value)] += count
        return tuple(found)

    def _bin(self, value: int | str) -> int:
        if self.ordered:
            return min(bisect_left([int(end) for end in self.ends], int(value)), len(self.counts) - 1)
        return self.ends.index(value) if value in self.ends else len(self.counts) - 1

    def name(self, number: int) -> str:
        """A bin for people."""
        if not self.ordered:
            value = self.ends[number] if number < len(self.ends) else "other"
            return SCRIPTS[value] if isinstance(value, int) else value
        begin = int(self.ends[number - 1]) + 1 if number else 0
        return in_words(self.signal, begin, int(self.ends[number]))

    def wire(self) -> dict[str, Any]:
        """As status has it."""
        return {"ends": list(self.ends), "counts": list(self.counts)}

    @staticmethod
    def read(signal: str, told: Mapping[str, Any]) -> Coarse:
        """From what :meth:`wire` wrote. Raises KeyError or TypeError."""
        return Coarse(signal, tuple(told["ends"]), tuple(int(count) for count in told["counts"]))


def coarsen(signal: str, fine: Fine) -> Coarse | None:
    """The bins for a signal of which the reference has the counts `fine`; None where it has none."""
    if signal not in BY_NAME or not sum(fine.values()):
        return None
    if not BY_NAME[signal].ordered:
        ordered = sorted(fine.items(), key=lambda pair: (-pair[1], str(pair[0])))[:MOST_VALUES]
        values = tuple(value for value, _ in ordered)
        rest = sum(fine.values()) - sum(count for _, count in ordered)
        return Coarse(signal, values, (*(count for _, count in ordered), rest))
    last = BY_NAME[signal].bins - 1
    counts = [fine.get(number, 0) for number in range(last + 1)]
    ends = _ends(counts, last)
    empty = Coarse(signal, tuple(ends), (0,) * len(ends))
    return Coarse(signal, empty.ends, empty.binned(fine))


def _ends(counts: Sequence[int], last: int) -> list[int]:
    """The last fine bin of each coarse one."""
    whole, ends, below, wanted = sum(counts), [], 0, list(QUANTILES)
    for number, count in enumerate(counts):
        below += count
        if wanted and below >= wanted[0] * whole:
            ends.append(number)
            wanted = [quantile for quantile in wanted if below < quantile * whole]
    seen = [number for number, count in enumerate(counts) if count]
    if sum(counts[: ends[0] + 1]) > _HEAVY_END * whole and seen[0] > 0:
        ends.insert(0, seen[0] - 1)
    if ends[-1] < seen[-1] and sum(counts[ends[-1] + 1 :]) > _HEAVY_END * whole:
        ends.append(seen[-1])
    return [*(end for end in ends if end < last), last]


def coarse_reference(
    counts: Mapping[str, Mapping[int, int]], labels: Mapping[str, int], wanted: frozenset[str]
) -> dict[str, Coarse]:
    """Every signal of the `wanted` features that the reference knows."""
    fine: dict[str, Fine] = {**counts, **({LABEL: labels} if labels else {})}
    found = {
        name: coarsen(name, told) for name, told in fine.items() if name in BY_NAME and BY_NAME[name].feature in wanted
    }
    return {name: coarse for name, coarse in found.items() if coarse}
