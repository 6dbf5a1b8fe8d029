"""A figure against its bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tapchanger_serving.contract.evidence import Interval
from tapchanger_serving.contract.messages import GateResult

UNBOUNDED = "none, reported only"
"""The bound of a figure that has none."""


class UnanswerableError(Exception):
    """A gate can't be evaluated; the text says why and what to do. It becomes a failed gate."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found: the figure, how sure it is, from how many rows, and some rows that speak against it."""

    value: float | None
    rows: int
    interval: Interval | None = None
    examples: tuple[int, ...] = ()
    detail: str | None = None


def at_least(name: str, found: Evidence, bound: float, *, confident: bool | None = None) -> GateResult:
    """Passes if the figure, or with `confident` the low end of its interval, is `bound` or more."""
    judged = found.value if not confident else found.interval.low if found.interval else None
    return _result(name, found, f"≥ {bound:g}", confident, passed=judged is not None and judged >= bound)


def at_most(name: str, found: Evidence, bound: float, *, confident: bool | None = None) -> GateResult:
    """Passes if the figure, or with `confident` the high end of its interval, is `bound` or less."""
    judged = found.value if not confident else found.interval.high if found.interval else None
    return _result(name, found, f"≤ {bound:g}", confident, passed=judged is not None and judged <= bound)


def reported(name: str, found: Evidence) -> GateResult:
    """A figure without a bound."""
    return _result(name, found, UNBOUNDED, None, passed=found.value is not None)


def unanswered(name: str, bound: str, why: str) -> GateResult:
    """A gate that could not be evaluated."""
    return GateResult(name=name, bound=bound, passed=False, detail=why)


def _result(name: str, found: Evidence, bound: str, confident: bool | None, *, passed: bool) -> GateResult:
    return GateResult(
        name=name,
        value=None if found.value is None else round(found.value, 6),
        interval=found.interval,
        bound=f"{bound} with 95 % confidence" if confident else bound,
        passed=passed,
        rows=found.rows,
        examples=found.examples,
        detail=found.detail,
    )


def sentence(results: Sequence[GateResult]) -> str:
    """The failed gates, each with its figure and interval against its bound."""
    return "; ".join(_failed(result) for result in results if not result.passed)


def _failed(result: GateResult) -> str:
    value = "not known" if result.value is None else f"{result.value:g}"
    within = f" [{result.interval.low:.4g}, {result.interval.high:.4g}]" if result.interval else ""
    notes = [note for note in (result.detail, f"{result.rows} rows" if result.rows is not None else None) if note]
    if result.examples:
        notes.append(f"for example rows {', '.join(map(str, result.examples))}")
    return f"{result.name} is {value}{within}, wanted {result.bound}" + (f" ({'; '.join(notes)})" if notes else "")
