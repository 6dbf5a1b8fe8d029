"""Re-statements of two other tools' analysis, from their documentation; none of their code is used.

Both query a metrics server over the last minute at a fixed interval and hold the figure against a bound. Where their
documentation leaves a choice, it is made in their favour: a canary begins at 5 % as in tapchanger, queries are exact
and answered at once, and P99 is taken from the requests themselves rather than from histogram buckets.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from tests.bench.decisions.cases import Case, Floats, Ints, Stream
from tests.bench.decisions.outcome import PROMOTED, ROLLED_BACK, UNDECIDED, Harm, Outcomes

INTERVAL: Final = 60
"""Seconds between checks, and the window of their queries."""
FLAGGER_THRESHOLD: Final = 5
FLAGGER_STEP_WEIGHT: Final = 5
FLAGGER_MAX_WEIGHT: Final = 50
FLAGGER_SUCCESS: Final = 0.99
ARGO_STEPS: Final = (5, 25, 50)
ARGO_COUNT: Final = 5
ARGO_FAILURE_LIMIT: Final = 0
ARGO_ERROR_LIMIT: Final = 4
ARGO_SUCCESS: Final = 0.95
P99: Final = 0.01
"""The 99th percentile is within the threshold when at most that share of the requests is slower."""


class Minutes:
    """A stream in windows of a minute, as the peers see it."""

    def __init__(self, case: Case, stream: Stream, rng: np.random.Generator) -> None:
        self._rng, self._errors = rng, case.errors
        windows = len(stream.arrivals) // INTERVAL
        shape = (windows, INTERVAL, stream.rollouts)
        arrivals = stream.arrivals[: windows * INTERVAL].reshape(shape)
        slow = (arrivals * case.slow[stream.condition[: windows * INTERVAL]].reshape(shape)).sum(axis=1)
        self.requests = arrivals.sum(axis=1, dtype=np.int64)
        self._slow = slow / np.maximum(1, self.requests)

    def __len__(self) -> int:
        return len(self.requests)

    def measure(self, window: int, rows: Ints, weight: Floats) -> tuple[Ints, Floats, Floats]:
        """The canary's requests, and the shares of slow and failed ones, NaN without requests."""
        requests = self._rng.binomial(self.requests[window, rows], weight / 100.0)
        slow = self._rng.binomial(requests, np.minimum(1.0, self._slow[window, rows]))
        failed = self._rng.binomial(requests, self._errors)
        with np.errstate(invalid="ignore", divide="ignore"):
            return requests, slow / requests, failed / requests


class _Rollouts:
    """Weights and ends, with the harm done meanwhile."""

    def __init__(self, case: Case, stream: Stream, weight: float) -> None:
        rows = stream.rollouts
        self._harm, self._horizon = Harm(case, stream), len(stream.arrivals)
        self.weight = np.full(rows, weight)
        self._moved = np.zeros(rows, np.int64)
        self._done = np.zeros(rows, bool)
        self._outcomes = Outcomes(
            np.full(rows, UNDECIDED), np.full(rows, np.nan), np.zeros(rows), np.full(rows, np.nan), np.zeros(rows, bool)
        )

    @property
    def active(self) -> Ints:
        return np.flatnonzero(~self._done)

    def move(self, rows: Ints, second: int, weight: float | Floats) -> None:
        harm = self._harm.between(rows, self._moved[rows], np.full(len(rows), second))
        self._outcomes.harm[rows] += harm * self.weight[rows] / 100.0
        self._moved[rows] = second
        self.weight[rows] = weight

    def finish(self, rows: Ints, second: int, end: int) -> None:
        self.move(rows, second, 100.0 if end == PROMOTED else 0.0)
        self._done[rows] = True
        self._outcomes.end[rows] = end
        self._outcomes.seconds[rows] = second

    def result(self) -> Outcomes:
        self.move(np.arange(len(self.weight)), self._horizon, self.weight)
        return self._outcomes


def flagger(case: Case, stream: Stream, rng: np.random.Generator) -> Outcomes:
    """Flagger's canary analysis: each minute all metrics are within their ranges, or a failed check is counted.

    https://docs.flagger.app/usage/deployment-strategies (the loop: a failed check halts the advancement and counts;
    at `threshold` of them all traffic goes back; `interval * threshold` is the time of a rollback),
    https://docs.flagger.app/usage/how-it-works (interval 1m, stepWeight 5, maxWeight 50) and
    https://docs.flagger.app/usage/metrics (success rate of at least 99 %, P99 within the threshold, over 1m); threshold
    5 as in https://docs.flagger.app/tutorials/istio-progressive-delivery. Failed checks are not forgotten when a later
    one succeeds. Without requests the query finds no values, which halts the advancement and counts too.
    """
    minutes = Minutes(case, stream, rng)
    rollouts = _Rollouts(case, stream, float(FLAGGER_STEP_WEIGHT))
    failed = np.zeros(stream.rollouts, np.int64)
    for window in range(len(minutes)):
        rows, second = rollouts.active, (window + 1) * INTERVAL
        requests, slow, errors = minutes.measure(window, rows, rollouts.weight[rows])
        good = (requests > 0) & (1.0 - errors >= FLAGGER_SUCCESS) & (slow <= P99)
        failed[rows[~good]] += 1
        rollouts.finish(rows[~good & (failed[rows] >= FLAGGER_THRESHOLD)], second, ROLLED_BACK)
        full = rollouts.weight[rows] >= FLAGGER_MAX_WEIGHT
        rollouts.finish(rows[good & full], second, PROMOTED)
        on = rows[good & ~full]
        rollouts.move(on, second, rollouts.weight[on] + FLAGGER_STEP_WEIGHT)
    return rollouts.result()


def argo(case: Case, stream: Stream, rng: np.random.Generator) -> Outcomes:
    """Argo Rollouts: an analysis step after each weight, of five measurements a minute apart.

    https://argo-rollouts.readthedocs.io/en/stable/features/analysis/ (analysis as a step; `interval: 60s`, `count: 5`;
    `successCondition: result[0] >= 0.95` for the success rate; a P99 within the threshold as a second metric;
    `failureLimit` 0 unless set, so that the first failed measurement aborts; a measurement that can't be evaluated is
    an Error, is not counted, and more than `consecutiveErrorLimit`, 4 unless set, in a row abort). A query without
    requests gives an empty vector, whose `result[0]` is such an Error. With a success condition alone a measurement is
    never Inconclusive.
    """
    minutes = Minutes(case, stream, rng)
    rollouts = _Rollouts(case, stream, float(ARGO_STEPS[0]))
    step, count, failures, errors_in_a_row = (np.zeros(stream.rollouts, np.int64) for _ in range(4))
    weights = np.array(ARGO_STEPS, float)
    for window in range(len(minutes)):
        rows, second = rollouts.active, (window + 1) * INTERVAL
        requests, slow, errors = minutes.measure(window, rows, rollouts.weight[rows])
        measured = requests > 0
        good = measured & (1.0 - errors >= ARGO_SUCCESS) & (slow <= P99)
        errors_in_a_row[rows] = np.where(measured, 0, errors_in_a_row[rows] + 1)
        count[rows] += measured
        failures[rows] += measured & ~good
        aborted = (failures[rows] > ARGO_FAILURE_LIMIT) | (errors_in_a_row[rows] > ARGO_ERROR_LIMIT)
        rollouts.finish(rows[aborted], second, ROLLED_BACK)
        passed = ~aborted & (count[rows] >= ARGO_COUNT)
        last = step[rows] == len(ARGO_STEPS) - 1
        rollouts.finish(rows[passed & last], second, PROMOTED)
        on = rows[passed & ~last]
        step[on] += 1
        count[on] = failures[on] = errors_in_a_row[on] = 0
        rollouts.move(on, second, weights[step[on]])
    return rollouts.result()
