"""Where time went adds up, in whatever pieces it is counted."""

from __future__ import annotations

from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapchanger_serving.observer.breakdown import MOST_NODES, Breakdown, Stage, length_class

THRESHOLDS = (0.05, 0.2)
PARTS = st.integers(min_value=0, max_value=4096).map(lambda value: value / 1024)
"""Halves of halves, whose sums don't depend on their order."""
TOLD = st.lists(
    st.tuples(
        st.builds(
            Stage,
            end=st.just(1.0),
            queue=PARTS,
            compute=PARTS,
            pre=PARTS,
            post=PARTS,
            tokens=st.integers(min_value=0, max_value=600),
            rows=st.integers(min_value=0, max_value=8),
            node=st.sampled_from(["", "a", "b"]),
        ),
        PARTS,
        st.booleans(),
    ),
    max_size=30,
)

Told = list[tuple[Stage, float, bool]]


def counted(told: Told) -> Breakdown:
    parts = Breakdown()
    for stage, seconds, failed in told:
        parts.every.add(stage)
        parts.join(stage, seconds, failed=failed, thresholds=THRESHOLDS)
    return parts


@given(TOLD, st.integers(min_value=0, max_value=30))
def test_merged_pieces_equal_counting_all_in_one(told: Told, cut: int) -> None:
    merged = counted(told[:cut])
    merged.absorb(counted(told[cut:]))
    assert merged == counted(told)


@given(TOLD)
def test_the_parts_and_the_network_are_no_less_than_what_users_waited(told: Told) -> None:
    every = counted(told).every
    assert every.spans == every.joined == len(told)
    assert every.queue + every.pre + every.compute + every.post + every.network >= every.seconds


@given(TOLD)
def test_slow_requests_are_those_that_took_longer_and_did_not_fail(told: Told) -> None:
    slow = counted(told).slow
    for threshold in THRESHOLDS:
        expected = [seconds for _, seconds, failed in told if seconds > threshold and not failed]
        assert (slow[threshold].spans if threshold in slow else 0) == len(expected)
        assert (slow[threshold].seconds if threshold in slow else 0.0) == sum(expected)


@given(TOLD)
def test_no_request_is_in_two_lengths_or_nodes(told: Told) -> None:
    parts = counted(told)
    assert sum(one.requests for one in parts.lengths.values()) == sum(s.tokens > 0 and not f for s, _, f in told)
    assert sum(one.requests for one in parts.nodes.values()) == sum(stage.node != "" for stage, *_ in told)
    assert sum(one.failed for one in parts.nodes.values()) == sum(failed for stage, _, failed in told if stage.node)


@pytest.mark.parametrize(("tokens", "up_to"), [(1, 1), (2, 2), (3, 4), (128, 128), (129, 256), (512, 512)])
def test_lengths_double_from_class_to_class(tokens: int, up_to: int) -> None:
    assert 2 ** length_class(tokens) == up_to


def test_nodes_are_bounded() -> None:
    stages = [Stage(1.0, 0, 0, node=f"node-{number}") for number in range(MOST_NODES + 5)]
    assert len(counted([(stage, 0.1, False) for stage in stages]).nodes) == MOST_NODES


def test_a_clock_that_runs_ahead_makes_no_negative_network() -> None:
    assert Stage(1.0, 0.2, 0.1).rest(0.25) == 0.0
    assert astuple(counted([(Stage(1.0, 0.2, 0.1), 0.25, False)]).every)[-1] == 0.0
