"""Something that strikes both revisions, recorded on a real node: whoever is struck first is not convicted by it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapchanger_operator.decide import blocks
from tapchanger_operator.decide.analysis import analyse
from tapchanger_operator.decide.evidence import AnalysisState, Counts, Look, Objective, ObjectiveCounts, Settings

RECORDED = json.loads((Path(__file__).parent / "hog.json").read_text())
"""Three times 75 s of 40 requests a second to two arms of one model on a node of two CPUs, each second's (requests, slower than
10 ms) of both, while a pod with four busy loops comes and goes (12 s of 17). Both arms have the same model; 58 and 57 %, 35 and
25 %, 33 and 33 % of their requests are slow, and for seconds at a time one of them is far worse."""
OBJECTIVE = Objective("latency", "latency", 0.9, 0.010)
SETTINGS = Settings(min_requests=1_000_000)
SECONDS = 45


def fails(seconds: list[list[list[int]]], canary: int) -> bool:
    """Whether the arm `canary` is convicted by these seconds."""
    state = AnalysisState()
    totals = [list(accumulate((second[arm] for second in seconds), _sum)) for arm in (canary, 1 - canary)]
    for elapsed, (mine, theirs) in enumerate(zip(*totals, strict=True), start=1):
        both = Counts(*mine), Counts(*theirs)
        look = Look({"latency": ObjectiveCounts(*both, *both)}, 50, float(elapsed))
        verdict, state = analyse([OBJECTIVE], look, SETTINGS, state)
        if verdict.result == "Fail":
            return True
    return False


def _sum(one: list[int], other: list[int]) -> list[int]:
    return [one[0] + other[0], one[1] + other[1]]


def windows() -> Iterator[tuple[list[list[list[int]]], int]]:
    for recorded in RECORDED:
        seconds = recorded["seconds"]
        for begin in range(0, len(seconds) - SECONDS, 2):
            yield from ((seconds[begin : begin + SECONDS], canary) for canary in (0, 1))


def test_a_pod_that_takes_the_cpu_convicts_neither_of_two_equal_arms(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [fails(*window) for window in windows()]
    assert len(found) > 80
    assert sum(found) <= 0.05 * len(found)
    monkeypatch.setattr(blocks, "TROUBLE", math.inf)
    assert sum(fails(*window) for window in windows()) > 3 * sum(found)


COUNTS = st.integers(0, 200).flatmap(lambda requests: st.tuples(st.just(requests), st.integers(0, requests)))


@given(COUNTS, COUNTS)
def test_a_bet_on_a_block_is_fair_whichever_arm_is_which(one: tuple[int, int], other: tuple[int, int]) -> None:
    there, back = blocks.block_bets(one, other), blocks.block_bets(other, one)
    for part, first, second in zip(blocks.BLOCKS.alternatives, there, back, strict=True):
        assert (math.exp(first) + math.exp(second)) / 2 == pytest.approx(1.0)
        assert abs(math.exp(first) - 1.0) <= part + 1e-12


@pytest.mark.parametrize(
    ("requests", "bad", "expected"),
    [(0, 0, False), (20, 0, False), (20, 1, False), (1000, 10, False), (20, 2, True), (1000, 20, True), (5, 5, True)],
)
def test_trouble_is_a_rate_above_the_budget_by_two_requests_at_least(requests: int, bad: int, expected: bool) -> None:
    assert blocks.in_trouble(0.01, requests, bad) is expected


@pytest.mark.parametrize(
    ("canary", "stable", "expected"),
    [
        ((20, 20), (80, 12), False),
        ((20, 20), (80, 40), True),
        ((20, 4), (80, 12), True),
        ((20, 4), (80, 1), False),
        ((0, 0), (80, 12), True),
        ((20, 20), (0, 0), False),
    ],
)
def test_a_trouble_is_shared_where_stable_has_a_third_of_it(
    canary: tuple[int, int], stable: tuple[int, int], expected: bool
) -> None:
    assert blocks.shared(0.05, canary, stable) is expected


def test_a_canary_that_is_slow_and_slows_stable_a_little_is_convicted_within_seconds() -> None:
    """Ten of its requests a second, all slow, beside forty of stable, of which one in six is: the objective allows one in ten."""
    seconds = [[[10, 10], [40, 7 if second % 3 == 0 else 6]] for second in range(6)]
    assert fails(seconds, 0)
