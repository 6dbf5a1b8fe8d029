"""Experiments: intervals that hold at all times, chances, and no winner that the data don't support."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy import integrate, stats

from tapchanger_operator.decide import bounded
from tapchanger_operator.decide.best import probability_of_best
from tapchanger_operator.decide.bounded import Kind, Tally, difference, exceeds, interval, log_wealth
from tapchanger_operator.decide.experiment import Settings, all_alike, analyse, beats_all

LOOKS, BATCH = 60, 40


def tally(good: int, count: int) -> Tally:
    return Tally(count, good)


@st.composite
def tallies(draw: st.DrawFn) -> Tally:
    count = draw(st.integers(1, 100_000))
    return tally(draw(st.integers(0, count)), count)


@examples(deadline=None)
@given(tallies(), st.sampled_from([0.2, 0.05, 0.001]))
def test_an_interval_has_its_mean_inside_and_grows_with_the_certainty_asked_for(one: Tally, error: float) -> None:
    low, high = interval(one, "binary", error)
    assert 0 <= low <= one.total / one.count <= high <= 1
    wider = interval(one, "binary", error / 2)
    assert wider[0] <= low
    assert wider[1] >= high


@given(tallies(), tallies())
@examples(max_examples=25, deadline=None)
def test_a_difference_has_its_estimate_inside_and_turns_round_with_the_arms(one: Tally, other: Tally) -> None:
    there, back = difference(one, other, "binary", 0.05), difference(other, one, "binary", 0.05)
    assert -1 <= there.low <= there.estimate <= there.high <= 1
    assert there.low == pytest.approx(-back.high, abs=1e-5)
    if there.low > -1:
        assert exceeds(one, other, "binary", there.low - 1e-4, 0.05)
    assert not exceeds(one, other, "binary", there.low + 1e-4, 0.05)


@examples(deadline=None)
@given(st.integers(1, 4000), st.integers(0, 4000), st.sampled_from(["binary", "score"]))
def test_the_wealth_of_a_bettor_is_convex_in_the_mean(count: int, good: int, kind: Kind) -> None:
    one = Tally(count, min(good, count), 0.2 * count)
    means = [step / 20 for step in range(21)]
    wealth = [log_wealth(one, kind, m) for m in means]
    for left, middle, right in zip(wealth, wealth[1:], wealth[2:], strict=False):
        assert middle <= (left + right) / 2 + 1e-9 * (1 + abs(middle))


def test_no_outcomes_say_nothing() -> None:
    assert interval(Tally(), "binary") == (0.0, 1.0)
    assert not exceeds(Tally(), tally(1, 1), "binary", 0.0, 0.05)
    found = analyse("control", {"control": Tally(), "b": Tally()}, Settings("binary"))
    assert (found.verdict, found.winner) == ("Running", None)
    assert found.arms["b"].difference is None
    assert found.arms["b"].best == pytest.approx(0.5)


def drawn(rng: np.random.Generator, kind: Kind, means: np.ndarray) -> list[Tally]:
    """Tallies after one look more for each arm's mean; scores have a standard deviation of about a tenth."""
    if kind == "binary":
        return [Tally(BATCH, int(rng.binomial(BATCH, mean))) for mean in means]
    values = [np.clip(rng.beta(20 * mean, 20 * (1 - mean), BATCH), 0, 1) for mean in means]
    return [Tally(BATCH, float(value.sum()), float((value**2).sum())) for value in values]


def added(so_far: list[Tally], fresh: list[Tally], kind: Kind) -> list[Tally]:
    squares = [new.total if kind == "binary" else new.spread for new in fresh]
    return [old.plus(new.count, new.total, s) for old, new, s in zip(so_far, fresh, squares, strict=True)]


def naive_winner(arms: list[Tally]) -> bool:
    """What looking at every p-value of the leader against each other arm would declare."""
    leader = max(arms, key=lambda one: one.total)
    pooled = sum(one.total for one in arms) / sum(one.count for one in arms)
    error = math.sqrt(max(1e-9, pooled * (1 - pooled)) * 2 / leader.count)
    return all((leader.total - one.total) / one.count > 1.64 * error for one in arms if one is not leader)


@pytest.mark.parametrize("kind", ["binary", "score"])
@pytest.mark.parametrize("drifts", [False, True], ids=["steady", "drifting"])
def test_among_equal_arms_a_winner_is_declared_no_more_often_than_the_error_allows(kind: Kind, drifts: bool) -> None:
    rng, experiments, settings = np.random.default_rng(7), 400, Settings(kind, error=0.1, min_requests=BATCH)
    false, naive = 0, 0
    for _ in range(experiments):
        arms, declared, fooled = [Tally()] * 3, False, False
        for look in range(LOOKS):
            mean = 0.8 + (0.15 * math.sin(look / 9) if drifts else 0.0)
            arms = added(arms, drawn(rng, kind, np.full(3, mean)), kind)
            by_name = dict(zip(("control", "b", "c"), arms, strict=True))
            leader = max(by_name, key=lambda arm: by_name[arm].total)
            declared = declared or beats_all(leader, by_name, settings)
            fooled = fooled or naive_winner(arms)
        false += declared
        naive += fooled
    assert false <= settings.error * experiments
    if kind == "binary":
        assert naive > settings.error * experiments, "the same looks fool a test that may be looked at only once"


@pytest.mark.parametrize("kind", ["binary", "score"])
def test_a_worse_arm_never_wins_and_a_better_one_does(kind: Kind) -> None:
    rng, settings, won = np.random.default_rng(3), Settings(kind, error=0.05), []
    for _ in range(20):
        arms = [Tally()] * 3
        for _ in range(LOOKS):
            arms = added(arms, drawn(rng, kind, np.array([0.8, 0.92, 0.7])), kind)
            by_name = dict(zip(("control", "b", "c"), arms, strict=True))
            leader = max(by_name, key=lambda arm: by_name[arm].total)
            if by_name[leader].count >= settings.min_requests and beats_all(leader, by_name, settings):
                break
        found = analyse("control", by_name, settings)
        won.append((found.verdict, found.winner))
    assert set(won) == {("Winner", "b")}


def test_intervals_cover_the_running_mean_at_all_times_though_it_drifts() -> None:
    rng, missed, streams = np.random.default_rng(11), 0, 200
    for _ in range(streams):
        one, expected, ever = Tally(), 0.0, False
        for look in range(60):
            mean = 0.97 + 0.02 * math.sin(look / 5)
            one = added([one], drawn(rng, "binary", np.array([mean])), "binary")[0]
            expected += BATCH * mean
            ever = ever or log_wealth(one, "binary", expected / one.count) >= math.log(1 / 0.1)
        missed += ever
    assert missed <= 0.1 * streams


def test_scores_that_differ_little_are_told_apart_sooner_than_as_mere_bounded_numbers() -> None:
    narrow = Tally(2000, 1000.0, 2000 * 0.01)
    score, binary = interval(narrow, "score"), interval(narrow, "binary")
    assert score[1] - score[0] < 0.4 * (binary[1] - binary[0])


def test_a_difference_that_matters_less_than_asked_for_wins_nothing() -> None:
    arms = {"control": tally(98_000, 100_000), "b": tally(98_600, 100_000)}
    assert analyse("control", arms, Settings("binary")).winner == "b"
    found = analyse("control", arms, Settings("binary", min_effect=0.01))
    assert (found.verdict, found.winner) == ("NoDifference", None)
    assert "no arm differs from control by 1 points or more" in found.message
    assert not all_alike("control", arms, Settings("binary", min_effect=0.001))


def test_control_wins_where_it_is_better_than_every_variant() -> None:
    arms = {"control": tally(9_900, 10_000), "b": tally(9_600, 10_000), "c": tally(9_500, 10_000)}
    found = analyse("control", arms, Settings("binary"))
    assert (found.verdict, found.winner) == ("Winner", "control")
    arms["c"] = tally(9_890, 10_000)
    assert analyse("control", arms, Settings("binary")).winner is None, "it is not shown to be better than c"


def test_nothing_is_declared_before_every_arm_has_what_is_asked_for() -> None:
    arms = {"control": tally(0, 1000), "b": tally(99, 99)}
    found = analyse("control", arms, Settings("binary", min_requests=100))
    assert found.verdict == "Running"
    assert found.message == "each arm needs 100 outcomes; there are: b 99"


@pytest.mark.parametrize(
    "arms",
    [
        [tally(50, 100), tally(60, 100)],
        [tally(9_990, 10_000), tally(9_985, 10_000), tally(95, 100)],
        [tally(0, 0), tally(3, 3), tally(0, 5), tally(500_000, 1_000_000)],
    ],
)
def test_the_chance_to_be_best_is_the_posterior_integral(arms: list[Tally]) -> None:
    posteriors = [stats.beta(1 + one.total, 1 + one.count - one.total) for one in arms]
    for number, chance in enumerate(probability_of_best(arms)):

        def density(x: float, number: int = number) -> float:
            others = [p.cdf(x) for at, p in enumerate(posteriors) if at != number]
            return float(posteriors[number].pdf(x) * np.prod(others))

        edges = sorted({float(q) for p in posteriors for q in p.ppf([1e-12, 0.01, 0.5, 0.99, 1 - 1e-12])})
        exact = sum(integrate.quad(density, a, b, limit=200)[0] for a, b in pairwise(edges))
        assert chance == pytest.approx(exact, abs=2e-3)


@given(st.lists(tallies(), min_size=1, max_size=5))
@examples(max_examples=30, deadline=None)
def test_chances_are_chances(arms: list[Tally]) -> None:
    chances = probability_of_best(arms)
    assert all(0 <= chance <= 1 for chance in chances)
    assert sum(chances) == pytest.approx(1)
    assert probability_of_best(arms) == chances


def test_sums_that_cannot_be_are_refused() -> None:
    for sums in ((2, 3.0, 1.0), (2, 1.0, 1.5), (-1, 0.0, 0.0), (2, 1.0, -0.5)):
        with pytest.raises(ValueError, match="can't have the sum"):
            Tally().plus(*sums)
    assert Tally().plus(4, 3.0, 2.5).mean == 0.75
    assert bounded.Tally(10, 5.0).plus(0, 0.0, 0.0) == bounded.Tally(10, 5.0)
