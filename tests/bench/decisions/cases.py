"""What is simulated: how requests arrive, how slow they are, and what the new revision does worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HORIZON: Final = 3600
"""Seconds that are simulated from the first request of the canary on: what is promoted serves until then."""
RATES: Final = (0.2, 2.0, 20.0, 200.0)
PATTERNS: Final = ("steady", "heavy-tailed", "diurnal", "bursty", "autocorrelated")
STATIONARY: Final = ("steady", "heavy-tailed")
LATENCY_BUDGET: Final = 0.01
ERROR_BUDGET: Final = 0.001
CLEARLY: Final = 1.5
"""A case breaks a budget clearly when its bad rate is that many times the budget."""

SLOW: Final = 0.003
ERRORS: Final = 0.0005
"""Shares of slow and of failed requests of the stable revision (and of a healthy canary) in calm times."""
SPREAD: Final = 0.4
"""Standard deviation of the logarithm of latencies."""
TAIL: Final = 2.0
"""Exponent of the tail of heavy-tailed latencies: P(latency > x) falls with x to the power of -TAIL."""
CONDITIONS: Final = np.exp(np.linspace(-0.75, 0.75, 61))
"""What a second may multiply the latencies of both revisions by; seconds hold an index into this."""
CALM: Final = 30


@dataclass(frozen=True)
class Regression:
    """What a new revision does worse: latencies times `latency`, `errors` more failed requests (a share)."""

    name: str
    latency: float = 1.0
    errors: float = 0.0


HEALTHY: Final = Regression("healthy")
REGRESSIONS: Final = (
    HEALTHY,
    *(Regression(f"latency {factor:g}x", latency=factor) for factor in (1.2, 1.5, 2.0, 5.0)),
    *(Regression(f"errors +{points:g} points", errors=points / 100.0) for points in (0.5, 2.0, 10.0)),
)


@dataclass(frozen=True)
class Stream:
    """The requests of many rollouts: `arrivals` and `condition` are (seconds, rollouts)."""

    pattern: str
    rate: float
    arrivals: NDArray[np.int32]
    condition: NDArray[np.uint8]

    @property
    def rollouts(self) -> int:
        return int(self.arrivals.shape[1])


@dataclass(frozen=True)
class Case:
    """A regression in a stream, as rates: `slow` and `stable_slow` by condition, `errors` and `stable_errors`."""

    regression: Regression
    pattern: str
    rate: float
    slow: Floats
    stable_slow: Floats
    errors: float
    stable_errors: float

    @property
    def name(self) -> str:
        return f"{self.regression.name}, {self.pattern}, {self.rate:g}/s"

    @property
    def worse(self) -> Floats:
        """By condition: how much likelier a request is bad (slow or failed) than with the stable revision."""
        return bad_rate(self.slow, self.errors) - bad_rate(self.stable_slow, self.stable_errors)

    def rates(self, stream: Stream) -> tuple[float, float]:
        """The canary's mean rates over the stream's requests: bad for the latency objective, and failed."""
        seen = np.bincount(
            stream.condition.ravel(), weights=stream.arrivals.ravel().astype(float), minlength=len(CONDITIONS)
        )
        return float(np.average(bad_rate(self.slow, self.errors), weights=seen)), self.errors


def bad_rate(slow: Floats, errors: float) -> Floats:
    """The share of requests that miss the latency objective: those that fail miss it too."""
    return errors + (1.0 - errors) * slow


def excess(latency: float, errors: float) -> float:
    """How many times its budget the objective has that is broken most; above 1 the canary breaks the SLO."""
    return max(latency / LATENCY_BUDGET, errors / ERROR_BUDGET)


def case(regression: Regression, pattern: str, rate: float) -> Case:
    """The rates of a regression under a pattern."""
    return Case(
        regression,
        pattern,
        rate,
        slow=slow_share(pattern, regression.latency),
        stable_slow=slow_share(pattern, 1.0),
        errors=ERRORS + regression.errors,
        stable_errors=ERRORS,
    )


def slow_share(pattern: str, factor: float) -> Floats:
    """Share of requests slower than the objective's threshold, by condition, with latencies times `factor`.

    Latencies are log-normal, or with a Pareto tail in the heavy-tailed pattern; the threshold lies where :data:`SLOW`
    of the stable revision's are slower in calm times.
    """
    times = factor * CONDITIONS
    if pattern == "heavy-tailed":
        return np.minimum(0.99, SLOW * times**TAIL)
    return np.asarray(stats.norm.sf(stats.norm.isf(SLOW) - np.log(times) / SPREAD))


def stream(pattern: str, rate: float, rollouts: int, rng: np.random.Generator, seconds: int = HORIZON) -> Stream:
    """Requests per second (Poisson) and conditions of each second; `rate` is the mean of requests per second.

    - diurnal: a sine of a day's length with a random phase, 80 % up and down; latencies go with the load.
    - bursty: four times the calm load in bursts of half a minute, a tenth of the time, when latencies rise by a quarter.
    - autocorrelated: latencies of both revisions wander together (AR(1), a minute's memory, 15 %).
    """
    load = np.ones((seconds, rollouts))
    slower = np.zeros((seconds, rollouts))
    if pattern == "diurnal":
        phase = rng.uniform(0.0, 2.0 * np.pi, rollouts)
        wave = np.sin(2.0 * np.pi * np.arange(seconds)[:, None] / 86400.0 + phase)
        load, slower = 1.0 + 0.8 * wave, 0.1 * wave
    elif pattern == "bursty":
        bursts = _switching(seconds, rollouts, 270.0, 30.0, rng)
        load = np.where(bursts, 4.0, 1.0) / 1.3
        slower = np.where(bursts, np.log(1.25), 0.0)
    elif pattern == "autocorrelated":
        slower = _wandering(seconds, rollouts, 60.0, 0.15, rng)
    step = np.log(CONDITIONS[1] / CONDITIONS[0])
    condition = np.clip(np.rint(slower / step) + CALM, 0, len(CONDITIONS) - 1).astype(np.uint8)
    return Stream(pattern, rate, rng.poisson(rate * load).astype(np.int32), condition)


def _switching(seconds: int, rollouts: int, calm: float, burst: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Two states that last `calm` and `burst` seconds on average."""
    state = rng.random(rollouts) < burst / (calm + burst)
    found = np.empty((seconds, rollouts), dtype=bool)
    for second in range(seconds):
        found[second] = state
        state = state ^ (rng.random(rollouts) < np.where(state, 1.0 / burst, 1.0 / calm))
    return found


def _wandering(seconds: int, rollouts: int, memory: float, spread: float, rng: np.random.Generator) -> Floats:
    """A stationary AR(1) process of standard deviation `spread`."""
    keep = np.exp(-1.0 / memory)
    value = rng.normal(0.0, spread, rollouts)
    found = np.empty((seconds, rollouts))
    for second in range(seconds):
        found[second] = value
        value = keep * value + rng.normal(0.0, spread * np.sqrt(1.0 - keep * keep), rollouts)
    return found
