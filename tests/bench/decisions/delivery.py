"""Rollouts by tapchanger: the analysis' twin and the rules of :mod:`tapchanger_operator.decide.rollout`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from tapchanger_operator.api.base import seconds
from tapchanger_operator.api.rollout import RolloutSpec
from tapchanger_operator.decide.evidence import Settings
from tapchanger_operator.decide.judge import PATIENCE_PART
from tapchanger_operator.decide.moves import SUSPECT_WEIGHT
from tapchanger_operator.decide.rollout import COMPARE_SECONDS, MOST_SUSPICIONS
from tests.bench.decisions.cases import ERROR_BUDGET, LATENCY_BUDGET, Case, Floats, Ints, Stream
from tests.bench.decisions.outcome import PROMOTED, ROLLED_BACK, UNDECIDED, Outcomes
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
    """All rollouts of some cases with the same stream of requests, second by second.

    Row `case * rollouts + rollout`. A rollout is looked at after seconds in which its canary had requests or a
    request was bad, and after those that follow until the bad ones have been compared: nothing can happen at others.
    """

    def __init__(
        self, found: Sequence[Case], stream: Stream, rng: np.random.Generator, record: Record | None = None
    ) -> None:
        self._cases, self._stream, self._rng = len(found), stream, rng
        rows = self._cases * stream.rollouts
        self._case = np.repeat(np.arange(self._cases), stream.rollouts)
        self._slow = np.stack([case.slow for case in found])
        self._stable_slow = np.stack([case.stable_slow for case in found])
        self._worse = np.stack([case.worse for case in found])
        self._errors = np.array([case.errors for case in found])
        self._stable_errors = np.array([case.stable_errors for case in found])
        self._twin = Twin(BUDGETS, SETTINGS, rows)
        self._record = record or Record()
        self._phase = np.zeros(rows, np.int64)
        self._weight = np.full(rows, float(WEIGHTS[0]))
        self._moved = np.zeros(rows, np.int64)
        self._step_began = np.zeros(rows, np.int64)
        self._suspicions = np.zeros(rows, np.int64)
        self._new = np.zeros(rows, bool)
        self._outcomes = Outcomes(
            end=np.full(rows, UNDECIDED),
            seconds=np.full(rows, np.nan),
            harm=np.zeros(rows),
            requests=np.zeros(rows),
            waited=np.zeros(rows, bool),
        )

    def run(self) -> list[Outcomes]:
        """Until the horizon; by case."""
        for second in range(1, len(self._stream.arrivals) + 1):
            self._phase[(self._phase == WATCHED) & (second >= self._moved + WATCH)] = DONE
            arrivals = np.tile(self._stream.arrivals[second - 1], self._cases).astype(np.int64)
            condition = np.tile(self._stream.condition[second - 1], self._cases)
            self._outcomes.harm[:] += arrivals * self._weight / 100.0 * self._worse[self._case, condition]
            active = self._phase < DONE
            late = active & (self._phase < WATCHED) & (second - self._step_began >= TIMEOUT)
            self._outcomes.waited[late] = True
            rows = np.flatnonzero(active & (arrivals > 0))
            if not len(rows):
                continue
            self._serve(rows, arrivals[rows], condition[rows], second)
            looked = self._new[rows] & ((self._phase[rows] != WATCHED) | (second % WATCH_SECONDS == 0))
            self._decide(rows[looked], second)
            self._new[rows[looked]] = self._twin.waiting(rows[looked]) & (self._weight[rows[looked]] < 100.0)
        return [self._outcomes.part(case, self._cases) for case in range(self._cases)]

    def _serve(self, rows: Ints, requests: Ints, condition: Ints, second: int) -> None:
        case, rng = self._case[rows], self._rng
        mine = rng.binomial(requests, self._weight[rows] / 100.0)
        theirs = requests - mine
        failed, bad = outcomes(mine, self._errors[case], self._slow[case, condition], rng)
        their_failed, their_bad = outcomes(theirs, self._stable_errors[case], self._stable_slow[case, condition], rng)
        self._outcomes.requests[rows] += mine
        self._new[rows] |= (mine > 0) | (their_bad > 0)
        self._twin.serve(rows, (mine, np.stack([bad, failed])), (theirs, np.stack([their_bad, their_failed])))
        for place in (int(at) for one in self._record.rollouts for at in np.flatnonzero(rows == one)):
            row = int(rows[place])
            looked = self._new[row] and (self._phase[row] != WATCHED or second % WATCH_SECONDS == 0)
            canary = int(mine[place]), int(bad[place]), int(failed[place])
            stable = int(theirs[place]), int(their_bad[place]), int(their_failed[place])
            look = Look(second, bool(looked), int(self._weight[row]), canary, stable)
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

    def _move(self, rows: Ints, second: int, weight: float | Floats) -> None:
        self._moved[rows] = self._step_began[rows] = second
        self._weight[rows] = weight

    def _reject(self, rows: Ints, second: int) -> None:
        self._move(rows, second, 0.0)
        self._phase[rows] = DONE
        self._outcomes.end[rows] = ROLLED_BACK
        self._outcomes.seconds[rows] = second

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


def outcomes(requests: Ints, errors: Floats, slow: Floats, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """How many of the requests fail, and how many miss the latency objective (slow or failed)."""
    failed = rng.binomial(requests, errors)
    return failed, failed + rng.binomial(requests - failed, slow)
