"""The fastest engine that passed is taken, unless a more precise one is as good as fast."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tapchanger_serving.build import choose
from tapchanger_serving.contract.messages import Candidate


def candidate(precision: str, speed: float | None, *, passed: bool = True, runtime: str = "openvino") -> Candidate:
    return Candidate(runtime=runtime, precision=precision, texts_per_second=speed, passed=passed, agreement=0.99)


def test_the_fastest_comes_first() -> None:
    order = choose.preferred([candidate("fp32", 100), candidate("int8", 300), candidate("bf16", 200)])
    assert [each.precision for each in order] == ["int8", "bf16", "fp32"]


def test_within_three_percent_the_more_precise_comes_first() -> None:
    order = choose.preferred([candidate("int8", 100), candidate("fp32", 97.5), candidate("bf16", 96)])
    assert [each.precision for each in order] == ["fp32", "int8", "bf16"]


def test_equal_precision_is_decided_by_speed() -> None:
    order = choose.preferred([candidate("fp32", 100, runtime="onnxruntime"), candidate("fp32", 101)])
    assert [each.runtime for each in order] == ["openvino", "onnxruntime"]


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
    assert choose.explain(best, [best, near], 50).endswith("within 3% but less precise: openvino int8 (100)")
