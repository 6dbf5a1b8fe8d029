"""Runs the cases, two processes at a time, and gathers the figures of each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from tests.bench.decisions import cases, delivery, oracle, peers, replay
from tests.bench.decisions.outcome import DECIDERS, PROMOTED, ROLLED_BACK, UNDECIDED, Outcomes

REPLAYED: Final = (0, 1)
"""Rollouts of each case that the operator's own code must decide alike."""
DETECTED: Final = 0.95
"""A case counts for the number of requests at detection where at least that share of its rollouts was rolled back. The
others count with their requests until the horizon."""
ORACLE_RUNS: Final = 20_000


@dataclass(frozen=True)
class Figures:
    """One decider in one case."""

    promoted: float
    rolled_back: float
    undecided: float
    waited: float
    seconds: float
    harm: float


@dataclass(frozen=True)
class Result:
    """One case: `breach` is the canary's bad rate over its budget, `requests` and `oracle` the mean numbers of the
    canary's requests at detection (NaN where not counted).
    """

    regression: str
    pattern: str
    rate: float
    rollouts: int
    breach: float
    deciders: dict[str, Figures]
    requests: float
    oracle: float
    differences: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        return self.regression == cases.HEALTHY.name

    @property
    def broken(self) -> bool:
        """Whether the canary breaks an objective at all."""
        return self.breach > 1.0

    @property
    def clearly(self) -> bool:
        return self.breach >= cases.CLEARLY

    @property
    def ratio(self) -> float:
        """Requests at detection over the oracle's; NaN where not counted."""
        return self.requests / self.oracle


def run(seed: int, rollouts: int, processes: int) -> Iterator[Result]:
    """All cases: one task for each stream of requests, so that every regression meets the same requests."""
    tasks = [(seed, rollouts, pattern, rate) for rate in cases.RATES for pattern in cases.PATTERNS]
    with ProcessPoolExecutor(processes) as pool:
        for results in pool.map(_stream, tasks):
            yield from results


def _stream(task: tuple[int, int, str, float]) -> list[Result]:
    seed, rollouts, pattern, rate = task
    place = cases.PATTERNS.index(pattern) * len(cases.RATES) + cases.RATES.index(rate)
    stream = cases.stream(pattern, rate, rollouts, np.random.default_rng([seed, place]))
    found = [cases.case(regression, pattern, rate) for regression in cases.REGRESSIONS]
    record = delivery.Record(tuple(case * rollouts + one for case in range(len(found)) for one in REPLAYED))
    ours = delivery.Delivery(found, stream, np.random.default_rng([seed, place, 99]), record).run()
    differences = list(_differences(found, record, ours))
    return [
        replace(
            _case(case, stream, ours[index], [seed, place, index]), differences=tuple(differences) if index == 0 else ()
        )
        for index, case in enumerate(found)
    ]


def _case(case: cases.Case, stream: cases.Stream, ours: Outcomes, seed: list[int]) -> Result:
    others = [
        peer(case, stream, np.random.default_rng([*seed, 1 + index]))
        for index, peer in enumerate((peers.flagger, peers.argo))
    ]
    latency, errors = case.rates(stream)
    requests = expected = math.nan
    breach = cases.excess(latency, errors)
    detected = ours.share(ROLLED_BACK) >= DETECTED and breach >= cases.CLEARLY
    if detected and case.pattern in cases.STATIONARY:
        requests = float(ours.requests.mean())
        rate, budget = oracle.broken_most(latency, errors)
        per_look = case.rate * delivery.WEIGHTS[0] / 100.0
        rng = np.random.default_rng([*seed, 9])
        expected = oracle.expected_requests(rate, budget, per_look, delivery.SETTINGS.false_alarm, ORACLE_RUNS, rng)
    return Result(
        regression=case.regression.name,
        pattern=case.pattern,
        rate=case.rate,
        rollouts=stream.rollouts,
        breach=breach,
        deciders={name: _figures(found) for name, found in zip(DECIDERS, (ours, *others), strict=True)},
        requests=requests,
        oracle=expected,
    )


def _differences(found: list[cases.Case], record: delivery.Record, ours: list[Outcomes]) -> Iterator[str]:
    for row, looks in record.looks.items():
        case, rollout = divmod(row, len(ours[0].end))
        difference = replay.differs(looks, bool(ours[case].end[rollout] == ROLLED_BACK))
        if difference:
            yield f"{found[case].name}, rollout {rollout}: {difference}"


def _figures(found: Outcomes) -> Figures:
    return Figures(
        promoted=found.share(PROMOTED),
        rolled_back=found.share(ROLLED_BACK),
        undecided=found.share(UNDECIDED),
        waited=float(found.waited.mean()),
        seconds=found.median_seconds,
        harm=found.mean_harm,
    )
