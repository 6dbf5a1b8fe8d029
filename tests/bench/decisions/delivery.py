"""Rollouts by tapchanger: the analysis' twin and the rules of :mod:`tapchanger_operator.decide.rollout`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tapchanger_operator.api.base import seconds
from tapchanger_operator.api.spec import RolloutSpec
from tapchanger_operator.decide.evidence import Settings
from tapchanger_operator.decide.judge import PATIENCE_PART
from tapchanger_operator.decide.moves import SUSPECT_WEIGHT
from tapchanger_operator.decide.rollout import COMPARE_SECONDS, MOST_SUSPICIONS
from tests.bench.decisions.cases import ERROR_BUDGET, LATENCY_BUDGET, Case, Floats, Ints, Stream
from tests.bench.decisions.outcome import PROMOTED, ROLLED_BACK, UNDECIDED, Harm, Outcomes
from tests.bench.decisions.twin import Twin

POLICY: Final = RolloutSpec()
WEIGHTS: Final = tuple(step.weight for step in POLICY.steps)
TIMEOUT: Final = seconds(POLICY.analysis.timeout)
WATCH: Final = int(seconds(POLICY.watch))
SETTINGS: Final = Settings(
    false_alarm=POLICY.analysis.false_alarm,
    min_requests=POLICY.analysis.min_requests,
    timeout=TIMEOUT,
    patience=TIMEOUT * PATIENCE_PART,
)
WATCH_SECONDS: Final = 2
"""How often a revision is looked at after its promotion; a canary is looked at every second."""
BUDGETS: Final = (LATENCY_BUDGET, ERROR_BUDGET)

WATCHED, COMPARED, DONE = len(WEIGHTS), len(WEIGHTS) + 1, len(WEIGHTS) + 2
"""Phases after the steps, which have their index."""


@dataclass(frozen=True)
class Look:
    """What one rollout saw in one second: (requests, slow or failed, failed) of both sides, at a weight.

    `judged`: the operator looked after it.
    """

    second: int
    judged: bool
    weight: int
    canary: tuple[int, int, int]
    stable: tuple[int, int, int]


@dataclass
class Record:
    """Looks of some rollouts and the weights after them, to be gone through again with the real code."""

    rollouts: tuple[int, ...] = ()
    looks: dict[int, list[Look]] = field(default_factory=dict)


class Delivery:
    """All rollouts of a case, second by second; only those with new requests are looked at."""

    def __init__(self, case: Case, stream: Stream, rng: np.random.Generator, record: Record | None = None) -> None:
        rows = stream.rollouts
        self._case, self._stream, self._rng = case, stream, rng
        self._twin = Twin(BUDGETS, SETTINGS, rows)
        self._record = record or Record()
        self._harm = Harm(case, stream)
        self._phase = np.zeros(rows, np.int64)
        self._weight = np.full(rows, float(WEIGHTS[0]))
        self._moved = np.zeros(rows, np.int64)
        self._step_began = np.zeros(rows, np.int64)
        self._suspicions = np.zeros(rows, np.int64)
        self._requests = np.zeros(rows)
        self._outcomes = Outcomes(
            end=np.full(rows, UNDECIDED),
            seconds=np.full(rows, np.nan),
            harm=np.zeros(rows),
            requests=np.full(rows, np.nan),
            waited=np.zeros(rows, bool),
        )

    def run(self) -> Outcomes:
        """Until the horizon."""
        horizon = len(self._stream.arrivals)
        for second in range(1, horizon + 1):
            over = (self._phase == WATCHED) & (second >= self._moved + WATCH)
            self._phase[over] = DONE
            active = self._phase < DONE
            if not active.any():
                break
            late = active & (self._phase < WATCHED) & (second - self._step_began >= TIMEOUT)
            self._outcomes.waited[late] = True
            watched = active & (self._phase == WATCHED)
            looks = second % WATCH_SECONDS == 0
            for earlier in range(second - WATCH_SECONDS + 1, second) if looks else ():
                self._serve(self._busy(watched & (self._moved < earlier), earlier), earlier, judged=False)
            rows = self._busy(active if looks else active & ~watched, second)
            if len(rows):
                self._serve(rows, second, judged=True)
                self._decide(rows, second)
        everyone = np.arange(self._stream.rollouts)
        left = everyone[self._outcomes.end != ROLLED_BACK]
        self._settle(left, horizon)
        return self._outcomes

    def _busy(self, chosen: NDArray[np.bool_], second: int) -> Ints:
        """Those of the rollouts that have requests in a second."""
        return np.flatnonzero(chosen & (self._stream.arrivals[second - 1] > 0))

    def _serve(self, rows: Ints, second: int, *, judged: bool) -> None:
        case, rng = self._case, self._rng
        requests = self._stream.arrivals[second - 1, rows].astype(np.int64)
        condition = self._stream.condition[second - 1, rows]
        mine = rng.binomial(requests, self._weight[rows] / 100.0)
        theirs = requests - mine
        failed, bad = outcomes(mine, case.errors, case.slow[condition], rng)
        their_failed, their_bad = outcomes(theirs, case.stable_errors, case.stable_slow[condition], rng)
        self._requests[rows] += mine
        self._twin.serve(rows, (mine, np.stack([bad, failed])), (theirs, np.stack([their_bad, their_failed])))
        for place in (int(at) for one in self._record.rollouts for at in np.flatnonzero(rows == one)):
            row = int(rows[place])
            canary = int(mine[place]), int(bad[place]), int(failed[place])
            stable = int(theirs[place]), int(their_bad[place]), int(their_failed[place])
            look = Look(second, judged, int(self._weight[row]), canary, stable)
            self._record.looks.setdefault(row, []).append(look)

    def _decide(self, rows: Ints, second: int) -> None:
        phase = self._phase[rows]
        elapsed = np.where(phase == WATCHED, 0.0, second - self._step_began[rows])
        compared = phase == COMPARED
        fails, passes = self._twin.look(rows, self._weight[rows], elapsed, hurried=compared)
        stepping = phase < WATCHED
        self._reject(rows[fails & (phase != WATCHED)], second)
        self._suspect(rows[fails & (phase == WATCHED)], second)
        last = phase == len(WEIGHTS) - 1
        self._step(rows[passes & stepping & ~last], second)
        late = compared & ~fails & ~passes & (second - self._moved[rows] >= TIMEOUT)
        self._promote(rows[(passes & ((stepping & last) | compared)) | late], second)
        again = compared & ~fails & ~passes & ~late & (elapsed >= COMPARE_SECONDS)
        self._twin.begin_step(rows[again])
        self._step_began[rows[again]] = second

    def _settle(self, rows: Ints, second: int) -> None:
        """Counts the harm since the last change of weight."""
        now = np.full(len(rows), second)
        harm = self._harm.between(rows, self._moved[rows], now)
        self._outcomes.harm[rows] += harm * self._weight[rows] / 100.0

    def _move(self, rows: Ints, second: int, weight: float | Floats) -> None:
        self._settle(rows, second)
        self._moved[rows] = self._step_began[rows] = second
        self._weight[rows] = weight

    def _reject(self, rows: Ints, second: int) -> None:
        self._move(rows, second, 0.0)
        self._phase[rows] = DONE
        self._outcomes.end[rows] = ROLLED_BACK
        self._outcomes.seconds[rows] = second
        self._outcomes.requests[rows] = self._requests[rows]

    def _step(self, rows: Ints, second: int) -> None:
        self._phase[rows] += 1
        self._move(rows, second, np.array(WEIGHTS, float)[self._phase[rows]])
        self._twin.begin_step(rows)

    def _promote(self, rows: Ints, second: int) -> None:
        self._move(rows, second, 100.0)
        self._phase[rows] = np.where(self._suspicions[rows] < MOST_SUSPICIONS, WATCHED, DONE)
        self._twin.begin_anew(rows)
        self._outcomes.end[rows] = PROMOTED
        self._outcomes.seconds[rows] = second

    def _suspect(self, rows: Ints, second: int) -> None:
        self._move(rows, second, float(min(SUSPECT_WEIGHT, WEIGHTS[-1])))
        self._phase[rows] = COMPARED
        self._suspicions[rows] += 1
        self._twin.begin_anew(rows)
        self._outcomes.end[rows] = UNDECIDED
        self._outcomes.seconds[rows] = np.nan


def outcomes(requests: Ints, errors: float, slow: Floats, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """How many of the requests fail, and how many miss the latency objective (slow or failed)."""
    failed = rng.binomial(requests, errors)
    return failed, failed + rng.binomial(requests - failed, slow)
