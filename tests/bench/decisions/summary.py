"""What the cases amount to: the figures of the last line, and the tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from tests.bench.decisions import cases
from tests.bench.decisions.outcome import DECIDERS
from tests.bench.decisions.run import Result

OURS, PEERS = DECIDERS[0], DECIDERS[1:]
LOW_RATE: Final = 0.2


def headline(results: Sequence[Result]) -> dict[str, float]:
    """The last line: see :mod:`tests.bench.decisions.__main__` for what each figure is."""
    healthy = [result for result in results if result.healthy]
    lucky = sum(
        round(result.deciders[OURS].promoted * result.rollouts)
        for result in results
        if result.broken and result.rate == LOW_RATE
    )
    counted = [result.ratio for result in results if not math.isnan(result.ratio)]
    return {
        "false_rollback_rate": max(result.deciders[OURS].rolled_back for result in healthy),
        "bad_requests_vs_best_peer": round(harm_ratio(clear(results)), 4),
        "detection_vs_sprt": round(max(counted), 3) if counted else math.nan,
        "lucky_promotions": lucky,
        "rollouts": sum(result.rollouts for result in results),
    }


def clear(results: Iterable[Result]) -> list[Result]:
    """Cases that break a budget clearly."""
    return [result for result in results if result.clearly]


def harm_ratio(results: Sequence[Result]) -> float:
    """Bad requests served with tapchanger over those with the better peer of each case, both summed."""
    return sum(result.deciders[OURS].harm for result in results) / sum(better_peer(result) for result in results)


def better_peer(result: Result) -> float:
    """Mean bad requests served with the peer that let fewer through in this case."""
    return min(result.deciders[peer].harm for peer in PEERS)


def false_rollbacks(results: Sequence[Result], rate: float) -> dict[str, float]:
    """The largest share of healthy canaries rolled back at a rate, by decider."""
    healthy = [result for result in results if result.healthy and result.rate == rate]
    return {decider: max(result.deciders[decider].rolled_back for result in healthy) for decider in DECIDERS}


def tables(results: Sequence[Result], seed: int) -> str:
    """All figures as a page of Markdown."""
    lines = [
        "# Every case of `make bench-decisions`",
        "",
        f"{results[0].rollouts} rollouts each, seed {seed}. `breach` is the canary's bad rate over its budget (above 1 it "
        "breaks the SLO). For each decider: share promoted / rolled back / undecided after one hour, median seconds until "
        "then, and mean bad requests beyond those that the stable revision would have served. `requests` are the canary's "
        "at tapchanger's rollback over those that the oracle's sequential test needs.",
        "",
        f"| regression | pattern | requests/s | breach | {' | '.join(DECIDERS)} | requests |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(result) for result in results]
    return "\n".join([*lines, ""])


def short(results: Sequence[Result]) -> str:
    """The table of docs/decisions.md: by rate, and by regression."""
    names = ", ".join(DECIDERS)
    lines = [
        f"| requests/s | healthy canaries rolled back, worst pattern ({names}) | bad requests, mean of clear cases ({names}) "
        "| over the better peer's |",
        "|---|---|---|---|",
    ]
    for rate in cases.RATES:
        here = [result for result in clear(results) if result.rate == rate]
        false = ", ".join(f"{100 * share:.2g} %" for share in false_rollbacks(results, rate).values())
        harm = ", ".join(f"{sum(r.deciders[name].harm for r in here) / len(here):.3g}" for name in DECIDERS)
        lines.append(f"| {rate:g} | {false} | {harm} | {harm_ratio(here):.2g} |")
    return "\n".join([*lines, "", *_steady(results)])


def _steady(results: Sequence[Result]) -> list[str]:
    lines = [
        f"| steady, 20 requests/s | breach | {' | '.join(DECIDERS)} | requests at detection, oracle's |",
        "|---|---|---|---|---|---|",
    ]
    return lines + [
        f"| {result.regression} | {result.breach:.3g} | {_deciders(result)} | {_requests(result)} |"
        for result in results
        if result.pattern == "steady" and result.rate == 20.0
    ]


def _row(result: Result) -> str:
    what = f"{result.regression} | {result.pattern} | {result.rate:g} | {result.breach:.3g}"
    return f"| {what} | {_deciders(result)} | {_requests(result)} |"


def _deciders(result: Result) -> str:
    return " | ".join(
        f"{100 * found.promoted:.3g} / {100 * found.rolled_back:.3g} / {100 * found.undecided:.3g} %, "
        f"{_plain(found.seconds)} s, {found.harm:.3g}"
        for found in result.deciders.values()
    )


def _requests(result: Result) -> str:
    if math.isnan(result.ratio):
        return ""
    return f"{result.requests:.4g} / {result.oracle:.4g} = {result.ratio:.2f}"


def _plain(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.0f}"
