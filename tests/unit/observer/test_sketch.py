from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tapchanger_serving.observer import sketch

SECONDS = st.floats(min_value=1e-6, max_value=1e4, allow_nan=False)
SAMPLES = st.lists(SECONDS, min_size=1, max_size=300)


def counted(values: list[float]) -> sketch.Sketch:
    made: sketch.Sketch = {}
    for value in values:
        sketch.add(made, value)
    return made


@given(SAMPLES, st.floats(min_value=0, max_value=1))
def test_a_quantile_is_within_one_percent_of_the_exact_one(values: list[float], q: float) -> None:
    exact = sorted(values)[int(q * (len(values) - 1))]
    found = sketch.quantile(counted(values), q)
    assert found is not None
    assert abs(found - exact) <= exact * (sketch.ERROR + 1e-9)


@given(SAMPLES, SECONDS)
def test_a_count_over_a_threshold_is_exact_for_a_threshold_within_one_percent(values: list[float], at: float) -> None:
    most = sum(value > at * (1 - sketch.ERROR - 1e-9) for value in values)
    least = sum(value > at * (1 + sketch.ERROR + 1e-9) for value in values)
    assert least <= sketch.count_over(counted(values), at) <= most


@given(SAMPLES, SAMPLES)
def test_merging_equals_counting_all_in_one(one: list[float], other: list[float]) -> None:
    merged = counted(one)
    sketch.merge(merged, counted(other))
    assert merged == counted(one + other)


def test_no_sample_has_no_quantile() -> None:
    assert sketch.quantile({}, 0.5) is None


def test_absurd_latencies_do_not_grow_the_sketch() -> None:
    made = counted([0.0, -1.0, 1e-9, math.inf, 1e300])
    assert set(made) == {sketch.index(sketch.SMALLEST), sketch.index(sketch.LARGEST)}
    assert sum(made.values()) == 5
