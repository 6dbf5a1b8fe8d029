"""What came of rollouts, in the same figures for every decider."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tests.bench.decisions.cases import Case, Floats, Stream

PROMOTED: Final = 1
ROLLED_BACK: Final = 2
UNDECIDED: Final = 3
DECIDERS: Final = ("tapchanger", "Flagger", "Argo Rollouts")


@dataclass(frozen=True)
class Outcomes:
    """One entry for each rollout.

    `end`: how it stands at the horizon. `seconds`: until the rollback or the (last) promotion, NaN where undecided.
    `harm`: bad requests beyond those that the stable revision would have served, until the horizon (expected ones,
    given the requests). `requests`: the canary's while it was judged. `waited`: it asked a person.
    """

    end: NDArray[np.int64]
    seconds: Floats
    harm: Floats
    requests: Floats
    waited: NDArray[np.bool_]

    def part(self, index: int, parts: int) -> Outcomes:
        """The `index`-th of so many equal parts."""
        size = len(self.end) // parts
        cut = slice(index * size, (index + 1) * size)
        return Outcomes(self.end[cut], self.seconds[cut], self.harm[cut], self.requests[cut], self.waited[cut])

    def share(self, end: int) -> float:
        """The share of rollouts that ended so."""
        return float(np.mean(self.end == end))

    @property
    def median_seconds(self) -> float:
        """Of those that were decided; NaN where none was."""
        decided = self.seconds[~np.isnan(self.seconds)]
        return float(np.median(decided)) if len(decided) else float("nan")

    @property
    def mean_harm(self) -> float:
        return float(self.harm.mean())


class Harm:
    """Bad requests beyond stable's that a share of the traffic brings, in expectation given the requests."""

    def __init__(self, case: Case, stream: Stream) -> None:
        each = stream.arrivals * case.worse[stream.condition]
        self._until = np.zeros((each.shape[0] + 1, each.shape[1]))
        np.cumsum(each, axis=0, out=self._until[1:])

    def between(self, rollouts: NDArray[np.int64], start: NDArray[np.int64], end: NDArray[np.int64]) -> Floats:
        """If all requests of the seconds from `start` to `end` went to the canary."""
        return np.asarray(self._until[end, rollouts] - self._until[start, rollouts])
