"""The monitor: what it costs to be wrong, and how soon it notices."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tapchanger_operator.decide.drift import accuracy, figures, monitor
from tapchanger_operator.decide.drift.accuracy import Sureness
from tapchanger_operator.decide.drift.bets import TOLERANCE, bet_count, bets, log_e_pooled, pooled, weights
from tapchanger_operator.decide.drift.coarse import Coarse, coarse_reference, coarsen
from tapchanger_serving.contract.drift import BY_NAME, SCRIPTS, Reference

EVERYTHING = frozenset({"tokens", "vocabulary", "confidence", "labels", "embedding"})
FINE = st.dictionaries(st.integers(0, 31), st.integers(0, 500), min_size=1).filter(
    lambda found: sum(found.values()) > 0
)


def texts(rng: random.Random, number: int, shift: float = 0.0, labels: float = 0.3) -> dict[str, dict[int | str, int]]:
    """Counts of so many texts, whose length moves by `shift` standard deviations, of which a share `labels` is angry."""
    found: dict[str, dict[int | str, int]] = {"tokens": {}, "pieces": {}, "label": {}}
    for _ in range(number):
        length = min(max(round(10 + 3 * (rng.gauss(0, 1) + shift)), 0), 31)
        pieces = min(max(round(12 + 4 * rng.gauss(0, 1)), 0), 39)
        label = "angry" if rng.random() < labels else "calm"
        for name, value in (("tokens", length), ("pieces", pieces), ("label", label)):
            found[name][value] = found[name].get(value, 0) + 1
    return found


def reference(number: int = 4000) -> dict[str, Coarse]:
    """Of so many texts."""
    found = texts(random.Random(1), number)
    labels = {str(label): count for label, count in found.pop("label").items()}
    return coarse_reference(found, labels, EVERYTHING)  # type: ignore[arg-type]


REFERENCE = reference()


def run(
    rng: random.Random, steps: int, log_threshold: float, state: monitor.Monitor | None = None, **traffic: float
) -> tuple[monitor.Monitor, int | None]:
    """The monitor after so many steps of 20 texts, or after the first that alarms, and which that was."""
    state = state or monitor.begin(REFERENCE)
    for number in range(steps):
        counts = texts(rng, 20, **traffic)
        binned = {name: coarse.binned(counts[name]) for name, coarse in REFERENCE.items()}
        state = monitor.take(state, REFERENCE, binned, 1000 + 10 * number, log_threshold)
        if state.alarmed:
            return state, number + 1
    return state, None


@given(FINE)
def test_coarse_bins_hold_every_text_once_and_in_order(fine: dict[int, int]) -> None:
    found = coarsen("tokens", fine)
    assert found
    assert found.total == sum(fine.values())
    assert list(found.ends) == sorted(set(found.ends))
    assert found.binned(fine) == found.counts
    assert math.isclose(sum(found.shares), 1)
    assert Coarse.read("tokens", found.wire()) == found


@given(FINE)
def test_no_bet_wins_on_average_while_texts_are_like_the_reference(fine: dict[int, int]) -> None:
    found = coarsen("tokens", fine)
    assert found
    for bet in bets(found):
        assert sum(p * math.exp(f) for p, f in zip(found.shares, bet.log_factors, strict=True)) <= 1 + 1e-9


@given(FINE, st.lists(st.integers(0, 31), min_size=1, max_size=6), st.lists(st.integers(0, 31), max_size=9))
@settings(max_examples=50)
def test_no_bet_wins_on_average_over_all_orders_of_the_texts(
    fine: dict[int, int], step: list[int], before: list[int]
) -> None:
    """The texts of a step are any of the pool's: here the last ones of a random order, with the exact mean over samples."""
    found = coarsen("tokens", fine)
    assert found
    whole = [
        a + b + c for a, b, c in zip(found.counts, *(found.binned(Counter(one)) for one in (step, before)), strict=True)
    ]
    for bet in pooled(found):
        single = sum(
            count * math.exp(log_e_pooled(bet, [int(k == place) for k in range(len(whole))], whole, 1.0))
            for place, count in enumerate(whole)
        )
        assert single / sum(whole) == pytest.approx(math.exp(-(TOLERANCE**2) / 2))


def test_what_a_small_reference_leaves_open_the_traffic_before_the_change_tells() -> None:
    """A shift of a quarter of a standard deviation, beside 500 texts; their mean is known to three errors of 0.13 of one."""
    small = reference(500)
    noticed: dict[bool, list[int]] = {True: [], False: []}
    for pools, seed in itertools.product(noticed, range(4)):
        rng, state = random.Random(seed), monitor.begin(small)
        for when in range(600):
            found = texts(rng, 20, shift=0.25 * (when >= 100))
            binned = {name: coarse.binned(found[name]) for name, coarse in small.items()}
            state = monitor.take(state, small, binned, 10 * when, math.log(5000), pools=pools)
            if state.alarmed:
                break
        noticed[pools].append(when - 100)
    assert min(noticed[True]) > 0
    assert sum(noticed[True]) < 0.6 * sum(noticed[False])


def test_where_the_traffic_so_far_is_no_measure_what_was_won_by_it_is_given_up() -> None:
    state, _ = run(random.Random(8), 20, math.log(5000))
    counts = {name: coarse.binned(texts(random.Random(9), 20)[name]) for name, coarse in REFERENCE.items()}
    after = monitor.take(state, REFERENCE, counts, 0, math.log(5000), pools=False)
    for name, track in after.tracks.items():
        alone = len(bets(REFERENCE[name]))
        assert set(track.logs[alone:]) == {monitor.NOTHING}
        assert track.logs[:alone] != state.tracks[name].logs[:alone]
        assert track.pool == state.tracks[name].pool


def test_texts_that_moved_are_not_what_later_ones_are_laid_beside_so_that_a_drift_can_end() -> None:
    calm, _ = run(random.Random(4), 10, math.log(5000))
    assert sum(calm.tracks["tokens"].pool) == 200
    state, alarm = run(random.Random(5), 200, math.log(5000), shift=1.0)
    assert alarm
    assert state.tracks["tokens"].pool == ()
    rng = random.Random(6)
    for number in range(300):
        state, _ = run(rng, 1, math.log(5000), state, shift=float(number < 20))
        assert state.alarmed or number > 20
    assert not state.alarmed


def test_what_the_reference_leaves_possible_is_no_drift() -> None:
    for seed in range(20):
        sample = coarse_reference({"tokens": texts(random.Random(seed), 200)["tokens"]}, {}, EVERYTHING)["tokens"]  # type: ignore[dict-item]
        true = sample.binned(texts(random.Random(99), 20_000)["tokens"])
        for bet in bets(sample):
            mean = sum(n * math.exp(f) for n, f in zip(true, bet.log_factors, strict=True)) / sum(true)
            assert mean <= 1.05


def test_features_share_the_stake_equally() -> None:
    parts = weights(REFERENCE)
    by_feature: dict[str, float] = {}
    for name, part in parts.items():
        feature = BY_NAME[name].feature
        by_feature[feature] = by_feature.get(feature, 0.0) + part * bet_count(REFERENCE[name])
    assert by_feature == {feature: pytest.approx(1 / 3) for feature in ("tokens", "vocabulary", "labels")}


def test_the_mean_time_between_false_alarms_is_kept() -> None:
    times = [run(random.Random(seed), 400, math.log(100))[1] or 400 for seed in range(25)]
    assert sum(times) / len(times) >= 100


def test_a_larger_change_is_noticed_sooner() -> None:
    found = [
        sum(run(random.Random(seed), 400, math.log(5000), shift=shift)[1] or 400 for seed in range(5)) / 5
        for shift in (0.3, 0.8, 2.0)
    ]
    assert found == sorted(found, reverse=True)
    assert found[-1] <= 7  # three of them only teach


def test_no_step_alone_alarms_however_strange() -> None:
    state, _ = run(random.Random(2), 10, math.log(1e5))
    counts = {name: tuple(10_000 * (k == 0) for k in range(len(one.counts))) for name, one in REFERENCE.items()}
    first = monitor.take(state, REFERENCE, counts, 0, math.log(1e5))
    assert not first.alarmed
    second = monitor.take(first, REFERENCE, counts, 10, math.log(1e5))
    assert monitor.take(second, REFERENCE, counts, 20, math.log(1e5)).alarmed


def test_the_culprit_is_the_signal_that_moved_and_when_it_did() -> None:
    quiet, alarm = run(random.Random(3), 60, math.log(5000))
    assert alarm is None
    for traffic, feature, signal in (({"shift": 1.0}, "tokens", "tokens"), ({"labels": 0.7}, "labels", "label")):
        state, _ = run(random.Random(4), 200, math.log(5000), quiet, **traffic)
        found = monitor.culprit(state, REFERENCE)
        assert found
        assert (found.feature, found.signal) == (feature, signal)
        assert 980 <= found.since <= 1030
        assert monitor.moved(state, REFERENCE, math.log(2500)) == {feature}


def test_an_alarm_is_over_when_texts_are_as_before() -> None:
    state, alarm = run(random.Random(5), 200, math.log(5000), shift=1.0)
    assert alarm
    rng = random.Random(6)
    for _ in range(60):
        state, _ = run(rng, 1, math.log(5000), state)
    assert not state.alarmed


def test_sessions_of_like_texts_are_no_drift() -> None:
    rng, state = random.Random(7), monitor.begin(REFERENCE)
    for number in range(150):
        counts = {name: {key: 20 * n for key, n in found.items()} for name, found in texts(rng, 1).items()}
        binned = {name: coarse.binned(counts[name]) for name, coarse in REFERENCE.items()}
        state = monitor.take(state, REFERENCE, binned, 10 * number, math.log(1e5))
        assert not state.alarmed
    assert state.tracks["tokens"].effect > 5


@settings(max_examples=25)
@given(st.lists(st.lists(st.integers(0, 30), min_size=2, max_size=2), min_size=1, max_size=5))
def test_a_track_is_the_same_after_it_was_written_and_read(steps: list[list[int]]) -> None:
    state = monitor.begin(REFERENCE)
    for number, (one, other) in enumerate(steps):
        size = len(REFERENCE["tokens"].counts)
        counts = tuple(one * (k == 0) + other * (k == size - 1) for k in range(size))
        state = monitor.take(state, REFERENCE, {"tokens": counts}, number, math.log(1e5))
    track = state.tracks["tokens"]
    again = monitor.Track.read(track.wire())
    assert again.logs == track.logs
    assert again.wire() == track.wire()


def test_a_value_that_the_reference_never_had_has_a_bin() -> None:
    found = coarsen("script", {0: 500})
    assert found
    assert found.binned({SCRIPTS.index("Cyrillic"): 3, 0: 1}) == (1, 3)
    assert [found.name(k) for k in range(2)] == ["ASCII", "other"]
    share = coarsen("unknown", {0: 500})
    assert share
    assert share.binned({0: 1, 5: 2}) == (1, 2)


def test_figures_agree_with_their_definitions() -> None:
    coarse = Coarse("tokens", (5, 10, 31), (300, 500, 200))
    assert figures.psi(coarse, (300, 500, 200)) == pytest.approx(0, abs=1e-3)
    assert figures.ks(coarse, (0, 0, 1000)) == pytest.approx(0.8, abs=0.01)
    statistic, chance = figures.chi_square(coarse, (130, 240, 130))
    expected = stats.chi2_contingency([[300, 500, 200], [130, 240, 130]], correction=False)
    assert statistic == pytest.approx(expected.statistic)
    assert chance == pytest.approx(expected.pvalue, abs=0.003)
    assert figures.mmd({"e0": coarse}, {"e0": (150, 250, 100)}) == 0
    moved = figures.mmd({"e0": coarse}, {"e0": (0, 0, 500)})
    assert moved
    assert moved == pytest.approx(math.sqrt(0.3**2 + 0.5**2 + 0.8**2), abs=0.02)


def test_accuracy_follows_confidence_and_says_when_not_to_rely_on_it() -> None:
    known = Reference(digest="d", texts=1000, counts={}, labelled=1000, accuracy=0.9, confidence=0.93, gap=0.3)
    same = accuracy.estimate(known, Sureness(400, 372, 350), inputs_moved=False)
    assert same
    assert (same.value, same.reliable) == (pytest.approx(0.9), True)
    assert same.low < 0.9 < same.high
    assert same.high - same.low == pytest.approx(2 * 1.96 * math.sqrt((350 / 400 - 0.93**2) / 400 + 0.09 / 1000))
    less = accuracy.estimate(known, Sureness(400, 300, 260), inputs_moved=False)
    assert less
    assert (less.value, less.reliable) == (pytest.approx(0.72), False)
    other = accuracy.estimate(known, Sureness(400, 372, 350), inputs_moved=True)
    assert other
    assert not other.reliable
    assert accuracy.estimate(known, Sureness(20, 18, 17), inputs_moved=False) is None
    assert (
        accuracy.estimate(Reference(digest="d", texts=5, counts={}), Sureness(400, 372, 350), inputs_moved=False)
        is None
    )
