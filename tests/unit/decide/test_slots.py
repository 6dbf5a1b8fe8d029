"""Slots: every change of weights moves what it must and nothing else."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapchanger_operator.decide.slots import SLOTS, Run, assign, lend, moved, owners_of, runs

ARMS = ("control", "a", "b", "c", "d")


@st.composite
def weights(draw: st.DrawFn) -> dict[str, int]:
    """Percent by arm, 100 in sum, some arms missing and some with nothing."""
    arms = draw(st.lists(st.sampled_from(ARMS), min_size=1, unique=True))
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=len(arms) - 1, max_size=len(arms) - 1)))
    return {arm: end - start for arm, start, end in zip(arms, [0, *cuts], [*cuts, 100], strict=True)}


def counted(assigned: tuple[Run, ...]) -> Counter[str]:
    return Counter(owners_of(assigned))


def test_the_first_assignment_is_in_the_order_of_the_arms() -> None:
    assert assign((), {"control": 50, "a": 30, "b": 20}) == (
        Run("control", 0, 500),
        Run("a", 500, 800),
        Run("b", 800, 1000),
    )


def test_ten_points_more_for_control_move_ten_points() -> None:
    before = assign((), {"control": 50, "a": 30, "b": 20})
    after = assign(before, {"control": 60, "a": 20, "b": 20})
    assert moved(before, after) == 100
    changed = {(old, new) for old, new in zip(owners_of(before), owners_of(after), strict=True) if old != new}
    assert changed == {("a", "control")}


@given(st.lists(weights(), min_size=1, max_size=8))
def test_any_sequence_of_weights_is_followed_exactly_and_moves_the_least_possible(steps: list[dict[str, int]]) -> None:
    before: tuple[Run, ...] = ()
    for wanted in steps:
        after = assign(before, wanted)
        assert [run.start for run in after] == [0, *[run.end for run in after[:-1]]]
        assert after[-1].end == SLOTS
        assert counted(after) == Counter({arm: weight * 10 for arm, weight in wanted.items() if weight})
        if before:
            old = counted(before)
            forced = sum(max(0, count - 10 * wanted.get(arm, 0)) for arm, count in old.items())
            assert moved(before, after) == forced
        assert assign(after, wanted) == after
        before = after


@given(weights(), weights(), st.integers(0, 99), st.integers(0, 99))
def test_a_lent_part_grows_and_shrinks_at_its_edge_only(
    first: dict[str, int], second: dict[str, int], one: int, other: int
) -> None:
    assigned = assign(assign((), first), second)
    small, large = (owners_of(lend(assigned, "control", "canary", part)) for part in sorted((one, other)))
    for owner, less, more in zip(owners_of(assigned), small, large, strict=True):
        assert less == owner or (owner == "control" and less == "canary")
        assert more == less or (less == "control" and more == "canary")
    own = owners_of(assigned).count("control")
    for part, lent in zip(sorted((one, other)), (small, large), strict=True):
        assert abs(lent.count("canary") - own * part / 100) < 1.0
        assert bool(lent.count("canary")) == bool(own and part)


def test_weights_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match="add up to 100"):
        assign((), {"control": 50, "a": 49})
    with pytest.raises(ValueError, match="0 or more"):
        assign((), {"control": 110, "a": -10})


def test_runs_are_as_long_as_they_can_be() -> None:
    assert runs(["a", "a", "b", "a"]) == (Run("a", 0, 2), Run("b", 2, 3), Run("a", 3, 4))
