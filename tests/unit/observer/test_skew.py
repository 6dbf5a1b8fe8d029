"""Clocks that differ are noticed, and clocks that may agree are not suspected."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from tapchanger_serving.observer import api
from tapchanger_serving.observer.ingest import Ingest
from tapchanger_serving.observer.skew import GENERATION_SECONDS, MOST_NODES, Clocks
from tapchanger_serving.observer.spans import Span
from tapchanger_serving.observer.windows import Windows

NOW = 1_800_000_000.0


def request(skew: float, way: float, work: float, back: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """What a server whose clock is `skew` ahead tells, and the router."""
    return (NOW + way + skew, NOW + way + work + skew), (NOW, NOW + way + work + back)


@given(st.floats(-100, 100), st.lists(st.tuples(*[st.floats(0.0, 1.0)] * 3), min_size=1, max_size=20))
def test_never_more_is_claimed_than_is_certain(skew: float, requests: list[tuple[float, float, float]]) -> None:
    clocks = Clocks()
    for one in requests:
        clocks.compare("n", *request(skew, *one), NOW)
    found = clocks.skews()["n"]
    assert abs(found) <= abs(skew) + 1e-6
    assert found * skew >= 0
    slack = min(way for way, _, _ in requests) + min(back for _, _, back in requests)
    assert abs(found) >= abs(skew) - slack - 1e-6


def test_a_clock_that_was_put_right_is_believed_again() -> None:
    clocks = Clocks()
    clocks.compare("n", *request(3.0, 0.001, 0.01, 0.001), NOW)
    assert clocks.skews()["n"] == pytest.approx(3.0, abs=0.01)
    for after in (GENERATION_SECONDS, 2 * GENERATION_SECONDS):
        clocks.compare("n", *request(0.0, 0.001, 0.01, 0.001), NOW + after)
    assert clocks.skews() == {"n": 0.0}
    clocks.age(NOW + 10 * GENERATION_SECONDS)
    assert clocks.skews() == {}


def test_made_up_nodes_take_no_memory_without_end() -> None:
    clocks = Clocks()
    for number in range(2 * MOST_NODES):
        clocks.compare(f"n{number}", *request(0.0, 0.1, 0.1, 0.1), NOW)
    assert len(clocks.skews()) == MOST_NODES


@pytest.mark.parametrize("skew", [-8.0, -0.5, 0.0, 0.5, 8.0])
def test_the_answer_names_a_node_whose_clock_differs(skew: float) -> None:
    """Also one that is so far ahead that its spans count as ending now."""
    store = Windows()
    ingest, rng = Ingest(store, lambda: NOW), random.Random(1)
    where = {"tapchanger.namespace": "a", "tapchanger.deployment": "b", "tapchanger.revision": "r"}

    def span(name: str, parent: bytes, own: bytes, begin: float, end: float, **attributes: Any) -> Span:
        made = {**where, "tapchanger.component": name, **attributes}
        events = (("QUEUE_START", int(begin * 1e9)),)
        return Span(b"t" * 16, own, parent, name, 2, int(begin * 1e9), int(end * 1e9), made, events)

    for number in range(20):
        own, at = bytes([number] * 8), NOW - 10 + rng.random()
        server = {"triton.model_name": "m", "tapchanger.compute.duration": "0.01", "k8s.node.name": "n1"}
        there = at + skew
        ingest.take([span("server", own, b"s" + own[1:], there + 0.002, there + 0.012, **server)], "grpc")
        ingest.take([span("router", b"", own, at, at + 0.013, **{"http.status_code": "200"})], "grpc")
    query = MultiDict([("namespace", "a"), ("deployment", "b"), ("until", str(NOW + 60))])
    found = {one.node: one.seconds for one in api.answer(store, query, NOW).skews}
    assert found == ({"n1": pytest.approx(skew, abs=0.01)} if skew else {})
