"""The fastest engine that passed is taken, unless a more precise one is as good as fast."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapchanger_serving.build import choose
from tapchanger_serving.build.choose import Arrangement, Way
from tapchanger_serving.contract.messages import Candidate, SmallChoice


def candidate(
    precision: str,
    speed: float | None,
    *,
    passed: bool = True,
    runtime: str = "openvino",
    student_layers: int | None = None,
) -> Candidate:
    score = None if speed is None else speed / 1000
    return Candidate(
        runtime=runtime,
        precision=precision,
        student_layers=student_layers,
        texts_per_second=speed,
        score=score,
        passed=passed,
        agreement=0.99,
    )


def test_the_fastest_comes_first() -> None:
    order = choose.preferred([candidate("fp32", 100), candidate("int8", 300), candidate("bf16", 200)])
    assert [each.precision for each in order] == ["int8", "bf16", "fp32"]


def test_within_three_percent_the_more_precise_comes_first() -> None:
    order = choose.preferred([candidate("int8", 100), candidate("fp32", 97.5), candidate("bf16", 96)])
    assert [each.precision for each in order] == ["fp32", "int8", "bf16"]


def test_equal_precision_is_decided_by_speed() -> None:
    order = choose.preferred([candidate("fp32", 100, runtime="onnxruntime"), candidate("fp32", 101)])
    assert [each.runtime for each in order] == ["openvino", "onnxruntime"]


def test_a_student_is_taken_only_where_it_is_clearly_faster() -> None:
    model, student = candidate("bf16", 100), candidate("fp32", 102, student_layers=3)
    assert choose.preferred([student, model]) == [model, student]
    told = choose.explain(model, [model, student], 50)
    assert told.endswith("within 3% but a student's: openvino fp32 of the 3-layer student")
    faster = candidate("fp32", 150, student_layers=3)
    assert choose.preferred([model, faster]) == [faster, model]
    assert choose.explain(faster, [model, faster], 50).startswith(
        "openvino fp32 of the 3-layer student gave 150 texts/s"
    )
    assert choose.preferred([model, faster.model_copy(update={"passed": False})]) == [model]


def test_what_failed_is_not_in_the_order() -> None:
    assert choose.preferred([candidate("int8", 300, passed=False), candidate("fp32", None)]) == []


SPEEDS = st.lists(st.tuples(st.sampled_from(["fp32", "bf16", "int8"]), st.floats(1, 1000), st.booleans()), max_size=8)


@given(SPEEDS)
def test_the_first_is_never_more_than_three_percent_behind_the_fastest(drawn: list[tuple[str, float, bool]]) -> None:
    candidates = [candidate(precision, speed, passed=passed) for precision, speed, passed in drawn]
    order = choose.preferred(candidates)
    passed = [speed for _, speed, ok in drawn if ok]
    assert len(order) == len(passed)
    if order:
        assert (order[0].texts_per_second or 0) >= 0.97 * max(passed)


def test_the_reason_names_speed_fidelity_and_what_was_faster_but_fell() -> None:
    best, fell = candidate("fp32", 200), candidate("int8", 400, passed=False)
    text = choose.explain(best, [best, fell], 100)
    assert text == (
        "openvino fp32 gave 200 texts/s, 2.00 times PyTorch's 100, with label agreement 0.9900; "
        "faster, but failed a gate: openvino int8 (400 texts/s, label agreement 0.9900)"
    )


def test_the_reason_says_when_precision_decided() -> None:
    best, near = candidate("fp32", 98), candidate("int8", 100)
    assert choose.explain(best, [best, near], 50).endswith("within 3% but less precise: openvino int8")


SMALL, MIDDLE, LARGE = (1, 16), (8, 64), (32, 256)


def way(index: int, *speeds: float, threads: int = 0) -> Way:
    return Way(index, threads, dict(zip((SMALL, MIDDLE, LARGE), speeds, strict=False)))


def test_the_score_is_the_geometric_mean_of_shares_of_the_best() -> None:
    first, second = way(0, 100, 50, 10), way(1, 50, 100, 10)
    best = choose.fastest([first, second])
    assert best == {SMALL: 100, MIDDLE: 100, LARGE: 10}
    assert choose.score(first.speeds, best) == pytest.approx(0.5 ** (1 / 3))


def test_a_point_that_was_not_measured_counts_as_just_behind() -> None:
    assert choose.score({SMALL: 100}, {SMALL: 100, LARGE: 10}) == pytest.approx((1 / choose.BEHIND) ** 0.5)


def test_an_engine_that_is_best_everywhere_runs_alone() -> None:
    best = way(0, 100, 100, 100)
    assert choose.arrangements(0, [best, way(1, 90, 90, 90)]) == [Arrangement(best)]


def test_small_batches_get_the_engine_that_is_faster_with_them() -> None:
    large, small = way(0, 100, 100, 100), way(1, 160, 90, 40)
    first, last = choose.arrangements(0, [large, small])
    assert (first.small, first.large, last) == (small, large, Arrangement(large))
    assert 16 < first.tokens < 512
    assert first.gain == pytest.approx(1.6 ** (1 / 3) - 1)
    assert [first.at(point) for point in (SMALL, MIDDLE, LARGE)] == [small, large, large]
    assert [first.speed(point) for point in (SMALL, MIDDLE, LARGE)] == [160, 100, 100]


def test_one_engine_may_take_small_batches_on_one_thread() -> None:
    every, single = way(0, 100, 100, 100), way(0, 150, 60, 50, threads=1)
    first = choose.arrangements(0, [every, single])[0]
    assert (first.small, first.large) == (single, every)


def test_a_second_engine_that_gains_little_is_not_worth_its_memory() -> None:
    assert len(choose.arrangements(0, [way(0, 100, 100, 100), way(1, 105, 90, 90)])) == 1


SPEED = st.floats(1, 1000)


@given(st.lists(st.tuples(SPEED, SPEED, SPEED), min_size=1, max_size=5))
def test_two_engines_are_never_slower_than_the_best_one_alone(speeds: list[tuple[float, float, float]]) -> None:
    ways = [way(index % 2, *drawn, threads=index // 2) for index, drawn in enumerate(speeds)]
    found = choose.arrangements(0, ways)
    alone = found[-1]
    assert alone.small is None
    for pair in found[:-1]:
        assert all(
            pair.speed(point) >= (1 - choose.NOISE) * alone.speed(point) * 0.999 for point in (SMALL, MIDDLE, LARGE)
        )


def test_the_reason_names_the_second_engine_and_a_busy_node() -> None:
    best = candidate("int8", 100)
    small = SmallChoice(tokens=90, runtime="onnxruntime", precision="int8", threads=1, gain=0.08)
    text = choose.explain(best, [best], 50, small, waited=0.1)
    assert "onnxruntime int8 on 1 thread takes batches of up to 90 tokens" in text
    assert text.endswith("the node was busy: engines waited for a CPU 10% of the time")
    assert "the same on 1 thread" in choose.explain(best, [best], 50, small.model_copy(update={"runtime": "openvino"}))
