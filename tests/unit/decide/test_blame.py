"""A failed canary's trouble is named where the spans show it, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapchanger_operator.decide.blame import CLEARLY, HALF, Blame, blame, dominant
from tapchanger_operator.decide.evidence import Objective
from tapchanger_serving.contract.windows import (
    ClockSkew,
    LatencyCount,
    LengthCount,
    NodeCount,
    RevisionWindow,
    SlowStages,
    Stages,
)

LATENCY = Objective("95% within 50ms", "latency", 0.95, 0.05)
AVAILABILITY = Objective("99.9% available", "availability", 0.999)
QUICK = {"queue": 0.003, "pre": 0.001, "compute": 0.008, "post": 0.0005, "network": 0.001}
STAGE = {
    "queue": "Queue",
    "pre": "PreProcessing",
    "compute": "Compute",
    "post": "PostProcessing",
    "network": "Network",
}


def stages(spans: int = 20, batch: float | None = 1.0, **parts: float) -> Stages:
    known = {**QUICK, **parts}
    return Stages(**known, seconds=sum(known.values()), spans=spans, joined=spans, batch=batch, tokens=20.0)


def window(slow: Stages | None = None, usual: Stages | None = None, **fields: Any) -> RevisionWindow:
    """240 requests, 60 of them slow where there are `slow` ones."""
    failed = fields.get("unavailable", 0)
    bad = (60 if slow else 0) + failed
    given_ones = {
        "requests": 240,
        "over": (LatencyCount(threshold=0.05, bad=bad),),
        "slow": (SlowStages(threshold=0.05, stages=slow),) if slow else (),
        "stages": usual or stages(),
        **fields,
    }
    return RevisionWindow(revision="r", **given_ones)


STABLE = window(requests=4700, usual=stages(400))


def blamed(canary: RevisionWindow, stable: RevisionWindow = STABLE, objective: Objective = LATENCY) -> Blame:
    found = blame(objective, canary, stable)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("part", "seconds", "words"),
    [
        ("compute", 0.412, "compute took 412 ms in slow requests, stable's 8 ms: 100 % of the difference"),
        ("pre", 0.3, "pre-processing took 300 ms in slow requests, stable's 1 ms"),
        ("post", 0.3, "post-processing took 300 ms in slow requests, stable's 0.5 ms"),
        ("queue", 0.2, "waiting in the queue took 200 ms in slow requests, stable's 3 ms"),
        ("network", 0.9, "the network took 900 ms in slow requests, stable's 1 ms"),
    ],
)
def test_the_part_that_has_grown_is_named_with_its_figures(part: str, seconds: float, words: str) -> None:
    found = blamed(window(stages(**{part: seconds})))
    assert found.stage == STAGE[part]
    assert found.share == 1.0
    assert found.message.startswith(words)


def test_a_slower_tokenizer_is_blamed_though_requests_wait_longer_for_it() -> None:
    found = blamed(window(stages(pre=0.1, queue=0.3), stages(pre=0.08, queue=0.2)))
    assert found.stage == "PreProcessing"
    assert "requests waited 300 ms for it, stable's 3 ms" in found.message


def test_a_little_more_work_is_no_reason_for_a_long_wait() -> None:
    parts = stages(queue=0.2, compute=0.014)
    assert blamed(window(parts, parts)).stage == "Queue"


@pytest.mark.parametrize(("requests", "stage"), [(24, "Queue"), (600, "Compute")], ids=["idle", "busy"])
def test_work_that_leaves_a_server_idle_lets_nobody_wait(requests: int, stage: str) -> None:
    """Seen: texts held back for larger batches, and a cold server that took three times as long for one text."""
    parts = stages(queue=0.139, compute=0.0261)
    canary = window(parts, parts, requests=requests, first_seen=1000.0, last_seen=1020.0)
    assert blamed(canary).stage == stage


def test_larger_batches_are_no_slower_work() -> None:
    """What waits long comes in large batches, which take longer as a whole and not for each text."""
    parts = stages(queue=0.2, compute=0.03, batch=6.0)
    assert blamed(window(parts, parts)).stage == "Queue"


def test_long_texts_among_the_slow_ones_are_no_slower_work() -> None:
    """They take longer in stable too; it is the waiting that has been added."""
    assert blamed(window(stages(queue=0.2, compute=0.04), stages(queue=0.05, compute=0.0085))).stage == "Queue"


def test_a_tie_is_nobody_s_fault_and_says_what_was_seen() -> None:
    found = blamed(window(stages(compute=0.108, network=0.101)))
    assert (found.stage, found.share) == ("Unknown", 0.0)
    assert "no part of the time stands out" in found.message
    assert "compute 108 ms" in found.message
    assert "the network 101 ms" in found.message


@pytest.mark.parametrize(
    ("canary", "stable", "words"),
    [
        (window(stages(2, compute=0.4), stages(4)), STABLE, "servers have told of 2 slow requests only"),
        (window(Stages(), Stages()), STABLE, "no server has told of a slow request"),
        (window(stages(compute=0.4)), RevisionWindow(revision="s"), "for lack of a comparison: slow requests took"),
        (window(stages(compute=0.4)), window(usual=stages(3)), "for lack of a comparison"),
        (window(stages()), STABLE, "no part of the time has grown"),
    ],
    ids=["few", "none", "alone", "stable thin", "alike"],
)
def test_thin_data_blame_nothing(canary: RevisionWindow, stable: RevisionWindow, words: str) -> None:
    found = blamed(canary, stable)
    assert (found.stage, found.share) == ("Unknown", 0.0)
    assert words in found.message


def test_where_few_slow_requests_were_traced_all_requests_tell() -> None:
    found = blamed(window(stages(2, compute=0.4), stages(30, compute=0.1)))
    assert found.stage == "Compute"
    assert "in all requests" in found.message


def test_servers_that_tell_less_are_judged_by_what_they_tell() -> None:
    old = {"queue": 0.003, "spans": 30}
    found = blamed(window(Stages(compute=0.4, **old)), window(usual=Stages(compute=0.01, **old)))
    assert found.stage == "Compute"


def lengths(**seconds: float) -> tuple[LengthCount, ...]:
    return tuple(
        LengthCount(up_to=int(name.removeprefix("up_to_")), requests=20, seconds=value)
        for name, value in seconds.items()
    )


def test_slowness_of_long_texts_alone_is_said() -> None:
    canary = window(stages(compute=0.8), lengths=lengths(up_to_16=0.02, up_to_64=0.022, up_to_128=0.04, up_to_256=0.9))
    stable = window(
        requests=4700,
        usual=stages(400),
        lengths=lengths(up_to_16=0.019, up_to_64=0.022, up_to_128=0.038, up_to_256=0.09),
    )
    found = blamed(canary, stable)
    assert found.stage == "Compute"
    assert "texts of more than 128 tokens took 900 ms, stable's 90 ms; shorter ones 27.3 ms" in found.message


def test_slowness_of_all_texts_is_not_laid_on_long_ones() -> None:
    canary = window(stages(compute=0.8), lengths=lengths(up_to_16=0.8, up_to_256=0.9))
    stable = window(requests=4700, usual=stages(400), lengths=lengths(up_to_16=0.02, up_to_256=0.09))
    assert "tokens" not in blamed(canary, stable).message


def test_errors_are_named_by_code_beside_stable() -> None:
    canary = window(unavailable=12, codes={"grpc/13": 11, "http/503": 1})
    found = blamed(canary, window(requests=4700, unavailable=1, codes={"grpc/14": 1}), AVAILABILITY)
    assert (found.stage, found.share) == ("Errors", 1.0)
    assert found.message == (
        "grpc/13 (the model could not answer) on 11, http/503 (no server could be reached) on 1 of 240 requests, "
        "stable's on 0 of 4700"
    )


def test_a_latency_objective_that_failures_break_is_blamed_on_them() -> None:
    found = blamed(window(unavailable=50, codes={"grpc/4": 50}))
    assert found.stage == "Errors"
    assert "grpc/4 (the deadline passed) on 50 of 240 requests" in found.message


def test_codes_that_stable_has_as_often_are_not_to_blame() -> None:
    found = blamed(
        window(unavailable=2, codes={"grpc/14": 2}), window(unavailable=4, codes={"grpc/14": 4}), AVAILABILITY
    )
    assert found.stage == "Unknown"


def node(name: str, requests: int, failed: int = 0, seconds: float = 0.013) -> NodeCount:
    return NodeCount(node=name, requests=requests, failed=failed, seconds=seconds)


def test_failures_on_one_node_only_are_the_node_s() -> None:
    nodes = (node("a", 120, failed=12), node("b", 120))
    found = blamed(window(unavailable=12, codes={"grpc/13": 12}, nodes=nodes), STABLE, AVAILABILITY)
    assert found.stage == "Node"
    assert "all 12 failures whose server is known were on node a, which answered 50 %" in found.message


@pytest.mark.parametrize(
    "nodes",
    [
        (node("a", 240, failed=12),),
        (node("a", 120, failed=11), node("b", 120, failed=1)),
        (node("a", 200, failed=3), node("b", 40)),
        (node("a", 120, failed=1), node("b", 120)),
    ],
    ids=["only node", "spread", "luck", "most unknown"],
)
def test_failures_that_may_be_anywhere_are_not_a_node_s(nodes: tuple[NodeCount, ...]) -> None:
    found = blamed(window(unavailable=12, codes={"grpc/13": 12}, nodes=nodes), STABLE, AVAILABILITY)
    assert found.stage == "Errors"


def test_a_slow_node_is_named() -> None:
    nodes = (node("a", 40, seconds=0.9), node("b", 60, seconds=0.014))
    found = blamed(window(stages(compute=0.8), nodes=nodes))
    assert found.stage == "Node"
    assert found.message.startswith("requests on node a took 900 ms, on others 14 ms, stable's 13.5 ms")


def test_slowness_on_every_node_is_no_node_s() -> None:
    nodes = (node("a", 40, seconds=0.9), node("b", 60, seconds=0.8))
    assert blamed(window(stages(compute=0.8), nodes=nodes)).stage == "Compute"


def test_nothing_bad_is_nothing_to_blame() -> None:
    assert blame(LATENCY, window(), STABLE) is None
    assert blame(AVAILABILITY, window(stages(compute=1.0)), STABLE) is None
    assert blame(LATENCY, RevisionWindow(revision="r"), STABLE) is None


def test_what_slow_requests_mostly_do_is_said_without_a_comparison() -> None:
    assert dominant(LATENCY, window(stages(compute=0.4))) == "compute took 400 ms of the 406 ms of slow requests"
    assert dominant(LATENCY, window(stages(compute=0.01, queue=0.01))) is None
    assert dominant(LATENCY, window()) is None
    words = dominant(AVAILABILITY, window(unavailable=3, codes={"grpc/13": 3}))
    assert words == "grpc/13 (the model could not answer) on 3 of 240 requests"


SECONDS = st.floats(min_value=0.0, max_value=5.0, allow_nan=False)
PARTS = st.fixed_dictionaries(dict.fromkeys(QUICK, SECONDS))
COUNT = st.integers(min_value=0, max_value=50)
NODES = st.lists(
    st.builds(NodeCount, node=st.sampled_from("abc"), requests=st.integers(1, 60), failed=COUNT, seconds=SECONDS),
    max_size=3,
    unique_by=lambda one: one.node,
)
LENGTHS = st.dictionaries(st.sampled_from([8, 32, 128, 256]), st.tuples(st.integers(1, 60), SECONDS), max_size=4).map(
    lambda told: [LengthCount(up_to=up_to, requests=n, seconds=s) for up_to, (n, s) in told.items()]
)


@st.composite
def any_window(draw: st.DrawFn, batch: bool = True) -> RevisionWindow:
    failed = draw(COUNT)
    size = draw(st.none() | st.floats(min_value=1, max_value=64)) if batch else None
    return window(
        stages(draw(COUNT), size, **draw(PARTS)),
        stages(draw(COUNT), size, **draw(PARTS)),
        unavailable=failed,
        codes={"grpc/13": failed} if failed else {},
        nodes=tuple(draw(NODES)),
        lengths=tuple(draw(LENGTHS)),
        requests=draw(st.integers(min_value=120, max_value=100_000)),
    )


@given(any_window(), any_window() | st.just(RevisionWindow(revision="s")), st.sampled_from([LATENCY, AVAILABILITY]))
def test_a_blame_is_a_share_and_a_sentence_and_unknown_has_no_share(
    canary: RevisionWindow, stable: RevisionWindow, objective: Objective
) -> None:
    found = blame(objective, canary, stable)
    if found is not None:
        assert 0.0 <= found.share <= 1.0
        assert found.message
        assert "nan" not in found.message
        if found.stage == "Unknown":
            assert found.share == 0.0


@given(any_window(), any_window())
def test_no_part_is_named_but_the_one_with_clearly_the_largest_excess(
    canary: RevisionWindow, stable: RevisionWindow
) -> None:
    found = blame(LATENCY, canary, stable)
    if found is None or found.stage not in STAGE.values():
        return
    total = sum(max(0.0, seconds) for seconds in found.excess.values())
    others = [seconds for stage, seconds in found.excess.items() if stage != found.stage]
    assert found.excess[found.stage] >= HALF * total
    assert found.excess[found.stage] - max(others) >= CLEARLY * total - 1e-9


@given(any_window(batch=False), any_window(batch=False))
def test_excess_is_the_plain_difference_where_the_work_for_one_text_is_not_known(
    canary: RevisionWindow, stable: RevisionWindow
) -> None:
    found = blame(LATENCY, canary, stable)
    if found is None or not found.excess:
        return
    slow = canary.slow[0].stages
    seen = slow if slow.spans >= 3 else canary.stages
    plain = {STAGE[part]: getattr(seen, part) - getattr(stable.stages, part) for part in QUICK}
    assert found.excess == pytest.approx(plain)


@given(any_window(), any_window())
def test_waiting_that_counts_for_the_work_adds_up_to_the_same_difference(
    canary: RevisionWindow, stable: RevisionWindow
) -> None:
    found = blame(LATENCY, canary, stable)
    if found is None or not found.excess:
        return
    slow = canary.slow[0].stages
    seen = slow if slow.spans >= 3 else canary.stages
    difference = sum(getattr(seen, part) - getattr(stable.stages, part) for part in QUICK)
    assert sum(found.excess.values()) == pytest.approx(difference, abs=1e-9)


AHEAD = (ClockSkew(node="n1", seconds=0.2), ClockSkew(node="elsewhere", seconds=-9.0))
BEHIND = (ClockSkew(node="n1", seconds=-0.2),)
ON_N1 = (NodeCount(node="n1", requests=200, failed=0, seconds=0.1),)


def told(seconds: float, **parts: float) -> RevisionWindow:
    """Slow requests on node n1 that took `seconds` by the router's clock, and the parts that two clocks make of them."""
    return window(stages(**parts).model_copy(update={"seconds": seconds}), nodes=ON_N1)


@pytest.mark.parametrize(
    ("canary", "skews", "stage", "words"),
    [
        (told(0.0635, queue=0.203), AHEAD, "Unknown", "the clock of node n1 is 200 ms ahead of the routers'"),
        (told(0.0635, network=0.15), BEHIND, "Unknown", "the clock of node n1 is 200 ms behind the routers'"),
        (told(0.1055, queue=0.203, compute=0.1), AHEAD, "Compute", "by which waiting and network are wrong"),
        (told(0.5135, queue=0.703), AHEAD, "Queue", "the clock of node n1 is 200 ms ahead"),
        (told(0.3135, network=0.301, compute=0.013), BEHIND, "Unknown", "can't be told"),
        (told(0.4135, compute=0.408), AHEAD, "Compute", "compute took 408 ms"),
        (told(0.2135, queue=0.203), AHEAD[1:], "Queue", "waiting in the queue took 203 ms"),
        (told(0.0135, queue=0.3), AHEAD, "Unknown", "can't be told"),
    ],
    ids=["ahead", "behind", "work beside it", "more than it", "a hidden wait", "none of it", "elsewhere", "no slower"],
)
def test_what_a_clock_makes_is_blamed_on_nobody(
    canary: RevisionWindow, skews: tuple[ClockSkew, ...], stage: str, words: str
) -> None:
    found = blame(LATENCY, canary, STABLE, skews)
    assert found
    assert found.stage == stage
    assert words in found.message


def test_a_missed_objective_names_no_wait_that_a_clock_makes() -> None:
    seen = told(0.0635, queue=0.203)
    assert "waiting in the queue" in (dominant(LATENCY, seen) or "")
    assert dominant(LATENCY, seen, AHEAD) is None
    assert "compute" in (dominant(LATENCY, told(0.5, compute=0.45), AHEAD) or "")
