"""Latency quantiles from a sketch, with their intervals."""

from __future__ import annotations

from tapchanger_serving.contract.ranks import ranks
from tapchanger_serving.contract.windows import Interval, Quantiles
from tapchanger_serving.observer import sketch
from tapchanger_serving.observer.sketch import Sketch


def quantiles(latencies: Sketch) -> Quantiles:
    """p50, p90 and p99, each with the interval that holds the true one; the bounds allow for the sketch's own error."""
    number = sum(latencies.values())
    if not number:
        return Quantiles()
    wanted: dict[str, int] = {}
    for name, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        low, high = ranks(number, q)
        wanted[name] = int(q * (number - 1))
        wanted |= {f"{name}_low": low} if low is not None else {}
        wanted |= {f"{name}_high": high} if high is not None else {}
    found = dict(zip(wanted, sketch.ranked(latencies, list(wanted.values())), strict=True))
    return Quantiles(
        p50=found["p50"],
        p90=found["p90"],
        p99=found["p99"],
        p50_interval=_interval(found, "p50"),
        p90_interval=_interval(found, "p90"),
        p99_interval=_interval(found, "p99"),
    )


def _interval(found: dict[str, float], name: str) -> Interval:
    low, high = found.get(f"{name}_low"), found.get(f"{name}_high")
    return Interval(
        low=None if low is None else low * (1 - sketch.ERROR), high=None if high is None else high * (1 + sketch.ERROR)
    )
