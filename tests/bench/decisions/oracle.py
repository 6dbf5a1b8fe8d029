"""Wald's sequential probability ratio test by an oracle: the yardstick of how many requests a detection takes."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from tests.bench.decisions.cases import ERROR_BUDGET, LATENCY_BUDGET

MISS: Final = 1e-3
"""What a rollout of three steps promises at most for a breach worth catching: one of ten in each step."""


def information(rate: float, budget: float) -> float:
    """Kullback-Leibler divergence of Bernoulli distributions: evidence per request, in nats."""
    return rate * math.log(rate / budget) + (1.0 - rate) * math.log((1.0 - rate) / (1.0 - budget))


def broken_most(latency: float, errors: float) -> tuple[float, float]:
    """(rate, budget) of the objective whose breach is the easier to see."""
    pairs = [(rate, budget) for rate, budget in ((latency, LATENCY_BUDGET), (errors, ERROR_BUDGET)) if rate > budget]
    return max(pairs, key=lambda pair: information(*pair))


def expected_requests(
    rate: float, budget: float, per_look: float, false_alarm: float, runs: int, rng: np.random.Generator
) -> float:
    """Mean requests until the oracle decides, simulated.

    It knows that the canary's bad rate is either `budget` or `rate`, and which of the objectives to look at, errs with
    probabilities of `false_alarm` and :data:`MISS` (Wald 1945, thresholds log((1-b)/a) and log(b/(1-a))), and looks
    when the operator does: after each second in which the canary had requests, Poisson with mean `per_look`.
    """
    up, down = math.log((1.0 - MISS) / false_alarm), math.log(MISS / (1.0 - false_alarm))
    for_bad, for_good = math.log(rate / budget), math.log((1.0 - rate) / (1.0 - budget))
    evidence, requests = np.zeros(runs), np.zeros(runs)
    open_ = np.arange(runs)
    while len(open_):
        batch = _at_least_one(per_look, len(open_), rng)
        bad = rng.binomial(batch, rate)
        evidence[open_] += bad * for_bad + (batch - bad) * for_good
        requests[open_] += batch
        open_ = open_[(evidence[open_] < up) & (evidence[open_] > down)]
    return float(requests.mean())


def _at_least_one(mean: float, size: int, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Poisson, given that it isn't 0: the first of its points is at the time of a truncated exponential."""
    first = -np.log1p(-rng.random(size) * -math.expm1(-mean))
    return 1 + rng.poisson(np.maximum(0.0, mean - first))
