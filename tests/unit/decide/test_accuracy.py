"""Objectives of accuracy: judged by labels that come late, never passed by luck, and fair to the stable revision."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tapchanger_operator.decide import evidence
from tapchanger_operator.decide.analysis import (
    AnalysisState,
    Counts,
    Look,
    Objective,
    ObjectiveCounts,
    Settings,
    Verdict,
    analyse,
)
from tapchanger_operator.decide.objectives import both, counts, objectives, worst_slice
from tapchanger_operator.decide.slo import slo_reason
from tapchanger_serving.contract.labels import LabelledSlice, LabelWindow
from tapchanger_serving.contract.windows import RevisionWindow
from tests.support.samples import spec

RIGHT = Objective("90% right", "accuracy", 0.9, min_labels=50)
AVAILABLE = Objective("availability", "availability", 0.999)
SETTINGS = Settings(timeout=900.0)


def look(
    canary: tuple[int, int], stable: tuple[int, int], requests: int = 1_000, elapsed: float = 300.0, weight: int = 50
) -> Look:
    labels = ObjectiveCounts(Counts(*canary), Counts(*stable), Counts(*canary), Counts(*stable))
    asked = ObjectiveCounts(*(Counts(requests, 0),) * 4)
    return Look({RIGHT.name: labels, AVAILABLE.name: asked}, weight, elapsed)


def verdict(seen: Look, state: AnalysisState | None = None) -> tuple[Verdict, AnalysisState]:
    return analyse((RIGHT, AVAILABLE), seen, SETTINGS, state or AnalysisState())


def test_without_enough_labels_a_canary_waits_whatever_its_requests_are() -> None:
    found, _ = verdict(look((49, 0), (200, 10)))
    assert (found.result, found.reason) == ("Inconclusive", evidence.TOO_FEW_LABELS)
    assert "49 of 50 labelled answers" in found.message
    late, _ = verdict(look((0, 0), (0, 0), elapsed=901.0))
    assert (late.result, late.reason) == ("Inconclusive", evidence.TIMED_OUT), "it does not wait for ever"


def test_enough_right_answers_pass_and_luck_does_not() -> None:
    assert verdict(look((60, 2), (200, 10)))[0].result == "Pass"
    unsure, _ = verdict(look((60, 6), (200, 10), elapsed=10.0))
    assert (unsure.result, unsure.reason) == ("Inconclusive", evidence.UNDECIDED)


def test_a_canary_whose_labels_are_worse_fails_and_is_told_with_its_figures() -> None:
    found, _ = verdict(look((100, 40), (100, 5)))
    assert (found.result, found.objective) == ("Fail", RIGHT.name)
    assert "40 of 100 labelled answers were wrong (40 %); the objective allows 10 %; stable has 5 %" in found.message


def test_a_canary_is_not_blamed_for_what_the_stable_revision_does_as_well_or_nobody_knows_of_it() -> None:
    alike, _ = verdict(look((200, 80), (200, 80)))
    assert (alike.result, alike.reason) == ("Inconclusive", evidence.NOT_SHOWN_WORSE)
    unknown, _ = verdict(look((200, 80), (0, 0)))
    assert (unknown.result, unknown.reason) == ("Inconclusive", evidence.NOT_SHOWN_WORSE)
    assert "none of stable's have been labelled" in unknown.message
    alone, _ = verdict(look((200, 80), (0, 0), weight=100))
    assert alone.result == "Fail", "where nothing serves beside it, the budget decides"


def test_labels_that_are_put_right_cost_no_evidence_and_make_none() -> None:
    first, state = verdict(look((100, 20), (100, 5), elapsed=100.0))
    corrected, state = verdict(look((100, 10), (100, 5), elapsed=101.0), state)
    assert first.result == corrected.result == "Inconclusive"
    assert corrected.evidence[0].canary == Counts(100, 10)


def test_an_equal_canary_fails_no_more_often_than_is_stated() -> None:
    chance, failed, passed = random.Random(7), 0, 0
    for _ in range(150):
        state, canary, stable = AnalysisState(), [0, 0], [0, 0]
        for second in range(40):
            for side in (canary, stable):
                came = chance.randrange(0, 12)
                side[0] += came
                side[1] += sum(chance.random() < 0.15 for _ in range(came))
            found, state = verdict(look((canary[0], canary[1]), (stable[0], stable[1]), elapsed=10.0 * second), state)
            if found.result == "Fail":
                failed += 1
                break
        else:
            passed += found.result == "Pass"
    assert failed <= 3, "15 % are wrong where 10 % may be, but stable does as badly"
    assert passed <= 15, (
        "a canary between the budget and twice it passes at times, one at twice it in a tenth of them at most"
    )


def test_a_bad_canary_is_caught_within_a_hundred_labels() -> None:
    chance, taken = random.Random(3), []
    for _ in range(50):
        state, canary, stable, found = AnalysisState(), [0, 0], [0, 0], None
        while found is None or found.result != "Fail":
            for side, rate in ((canary, 0.35), (stable, 0.04)):
                side[0] += 4
                side[1] += sum(chance.random() < rate for _ in range(4))
            found, state = verdict(look((canary[0], canary[1]), (stable[0], stable[1]), elapsed=canary[0] / 2), state)
            assert canary[0] < 2_000
        taken.append(canary[0])
    assert sorted(taken)[25] <= 100


SPEC = spec(
    slo={
        "objectives": [
            {"accuracy": 0.9},
            {"accuracy": 0.8, "slice": "source=tweets", "minLabels": 20},
            {"availability": 0.999},
        ]
    }
)


def window(
    revision: str, labelled: int, right: int, tweets: tuple[int, int] = (0, 0), requests: int = 500
) -> RevisionWindow:
    slices = (LabelledSlice(name="source=tweets", labelled=tweets[0], right=tweets[1]),) if tweets[0] else ()
    labels = LabelWindow(labelled=labelled, right=right, slices=slices)
    return RevisionWindow(revision=revision, requests=requests, labels=labels)


def test_objectives_and_counts_come_from_the_spec_and_the_windows() -> None:
    all_right, tweets, available = objectives(SPEC)
    assert [one.name for one in (all_right, tweets, available)] == [
        "90% right",
        "80% right in source=tweets",
        "99.9% available",
    ]
    assert (all_right.min_labels, tweets.min_labels) == (50, 20)
    seen = window("r", 100, 88, (30, 20))
    assert counts(all_right, seen) == Counts(100, 12)
    assert counts(tweets, seen) == Counts(30, 10)
    assert counts(tweets, window("r", 10, 10)) == Counts(), "a slice without labels has none"
    assert objectives(SPEC, labelled=False) == (available,)
    step = (window("r", 1, 1), window("s", 1, 1))
    assert both(all_right, (seen, seen), step).step_canary == Counts(100, 12), (
        "all labels of the canary count in a step"
    )
    assert both(available, (seen, seen), step).step_canary.requests == 500


@pytest.mark.parametrize(
    ("labels", "status", "words"),
    [
        ((0, 0), "True", "90% right: 0 labels so far, 50 needed"),
        ((100, 95), "True", "90% right: 95.000% of 100 labelled answers"),
        ((100, 80), "False", "90% right: 80.000% of 100 labelled answers"),
    ],
)
def test_the_slo_says_what_labels_say_and_thin_ones_say_nothing(
    labels: tuple[int, int], status: str, words: str
) -> None:
    found, _, lines = slo_reason(SPEC, window("r", *labels))
    assert found == status
    assert words in lines
    only = spec(slo={"objectives": [{"accuracy": 0.9}]})
    assert slo_reason(only, window("r", 3, 3))[0] == "Unlabelled"


def test_the_worst_slice_is_named_only_where_it_stands_out() -> None:
    canary = window("c", 200, 150, (60, 15))
    assert worst_slice(canary, window("s", 200, 190, (50, 45))) == (
        "most of all in source=tweets, with 15 of 60 right (stable: 45 of 50)"
    )
    assert worst_slice(window("c", 200, 150, (60, 45)), window("s", 10, 9)) is None


def test_states_are_remembered_by_slice_and_target() -> None:
    assert RIGHT.key != replace(RIGHT, name="80% right", target=0.8).key
