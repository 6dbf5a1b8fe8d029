"""Days and nights differ: like hours are compared with each other when told to."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tapchanger_operator.api.drift import DriftSpec, DriftStatus
from tapchanger_operator.decide.drift import hours
from tapchanger_operator.decide.drift.coarse import Coarse
from tapchanger_operator.decide.drift.hours import Hour, Hours
from tapchanger_operator.decide.drift.season import next_hours
from tapchanger_operator.decide.drift.watch import watch
from tapchanger_serving.contract.drift import DriftStep, DriftWindow
from tests.unit.decide.test_drift_watch import reference, step

MIDNIGHT = 1_700_006_400
"""The beginning of a Wednesday, UTC."""
EVERY = 300
"""Seconds between two steps in which texts come."""
DAY = 86_400
HOURS = DriftSpec.model_validate({"compare": {"like": "hours"}, "falseAlarmEvery": "10d"})
PLAIN = DriftSpec.model_validate({"falseAlarmEvery": "10d"})
NIGHT = 4
"""Tokens that a text of the night is longer."""


def is_night(at: int) -> bool:
    return not 8 <= at % DAY // 3600 < 20


class Traffic:
    """Texts by day and by night, as passes look at them; what is kept of like hours goes from one to the next."""

    def __init__(self, spec: DriftSpec, seed: int = 1) -> None:
        self.spec, self.at, self.kept = spec, MIDNIGHT, None
        self.record: DriftStatus | None = None
        self.rng = random.Random(seed)
        self.verdicts: list[tuple[int, str]] = []
        self.texts = 60

    def run(self, seconds: int, night: int = NIGHT, **unlike: Any) -> Traffic:
        for start in range(self.at, self.at + seconds, EVERY):
            shift = night if is_night(start) else 0
            found = step(self.rng, 0, texts=self.texts, **{"shift": shift, **unlike}).model_copy(
                update={"start": start}
            )
            self.look(found)
            self.verdicts.append((start, self.record.verdict if self.record else ""))
        self.at += seconds
        return self

    def look(self, *steps: DriftStep) -> None:
        until = steps[-1].start + 10
        window = DriftWindow(
            namespace="a",
            deployment="m",
            revision="r1",
            now=until + 10,
            until=until,
            reference=reference(),
            steps=steps,
        )
        self.record = watch(self.spec, self.record, "r1", window, evaluated=True, now=until + 10, kept=self.kept)
        self.kept = next_hours(self.spec, self.record, self.kept)

    def since(self, start: int) -> set[str]:
        return {verdict for at, verdict in self.verdicts if at >= start}


@pytest.fixture(scope="module")
def known() -> Traffic:
    """Three days and nights, and a morning in which the last alarm ends."""
    return Traffic(HOURS).run(3 * DAY + 12 * 3600)


def again(known: Traffic) -> Traffic:
    found = Traffic(HOURS, seed=2)
    found.at, found.kept, found.record = known.at, known.kept, known.record
    return found


def test_without_it_every_night_is_a_drift() -> None:
    traffic = Traffic(PLAIN).run(2 * DAY)
    for night in range(2):
        inside = [
            verdict for at, verdict in traffic.verdicts if at % DAY < 8 * 3600 and at // DAY - MIDNIGHT // DAY == night
        ]
        assert inside[-1] == "tokens"
    assert traffic.kept is None


def test_with_it_only_the_first_nights_are_until_they_are_known(known: Traffic) -> None:
    assert "tokens" in known.since(MIDNIGHT)
    traffic = again(known).run(2 * DAY)
    assert traffic.since(known.at) == {"none"}
    assert traffic.record
    assert traffic.record.reference == "3600 texts of the same hour of 5 days"


@pytest.mark.parametrize("unlike", [{"night": 0}, {"night": NIGHT + 4}, {"angry": 0.9}])
def test_a_change_at_night_is_still_found(known: Traffic, unlike: dict[str, Any]) -> None:
    """Nights like days are one too, though the plain reference knows them."""
    traffic = again(known).run(10 * 3600)
    assert traffic.since(known.at) == {"none"}
    start = traffic.at
    traffic.run(4 * 3600, **unlike)
    assert traffic.record
    assert traffic.record.verdict == ("labels" if "angry" in unlike else "tokens")
    told = next(at for at, verdict in traffic.verdicts if at >= start and verdict != "none")
    assert told - start <= 3600


def test_a_night_in_which_it_alarms_does_not_become_the_reference(known: Traffic) -> None:
    traffic = again(known).run(12 * 3600).run(8 * 3600, angry=0.9).run(24 * 3600)
    found = hours.read(traffic.kept, "hours", _key(traffic))
    assert {number: found.slots[number].times for number in (2, 7, 14, 22)} == {2: 4, 7: 4, 14: 5, 22: 5}


def _key(traffic: Traffic) -> str:
    from json import loads

    return str(loads(traffic.kept or "{}")["key"])


def test_what_is_taken_again_after_a_restart_counts_once_and_against_the_same(known: Traffic) -> None:
    """The hour ends, its counts are kept, and the operator ends before it has written its record."""
    traffic = again(known).run(12 * 3600 - EVERY)
    record = traffic.record
    traffic.run(3 * EVERY)
    whole, kept = traffic.record, traffic.kept
    steps = [
        step(random.Random(number), 0, texts=60, shift=NIGHT).model_copy(
            update={"start": traffic.at - (3 - number) * EVERY}
        )
        for number in range(3)
    ]
    traffic.record, traffic.kept = record, kept
    for one in steps:
        traffic.look(one)
    first = traffic.record
    traffic.record = record
    traffic.look(*steps)
    assert traffic.record == first
    assert traffic.kept == kept
    assert whole
    assert first
    assert first.texts == whole.texts


def test_what_is_kept_is_small_and_of_another_reference_worth_nothing(known: Traffic) -> None:
    assert known.kept
    assert len(known.kept) < 24 * 1500
    key = _key(known)
    assert hours.read(known.kept, "hours", key).dumps() == known.kept
    assert hours.read(known.kept, "hours", key).known() == 24
    for text, like, of in (
        (known.kept, "hours", "x"),
        (known.kept, "hoursOfWeek", key),
        ("{", "hours", key),
        (None, "hours", key),
    ):
        assert hours.read(text, like, of).known() == 0  # type: ignore[arg-type]


def test_an_hour_with_few_texts_is_compared_with_the_plain_reference() -> None:
    traffic = Traffic(HOURS)
    traffic.texts = 5
    traffic.run(4 * DAY, night=0)
    assert traffic.record
    assert traffic.record.reference == "2000 texts of the reference (24 of 24 hours are known)"


def test_hours_of_the_week_begin_on_monday_and_those_of_the_day_at_midnight_utc() -> None:
    assert [hours.slot("hours", MIDNIGHT + 3600 * number) for number in (0, 5, 23, 24)] == [0, 5, 23, 0]
    assert [hours.slot("hoursOfWeek", MIDNIGHT + 3600 * number) for number in (0, 24, 119, 120)] == [48, 72, 167, 0]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 50)), max_size=60))
def test_an_hour_counts_once_however_often_it_is_told_and_never_against_itself(told: list[tuple[int, int]]) -> None:
    found, counted = Hours("hours", "k"), dict[int, int]()
    for number, texts in sorted(told):
        ended = Hour(MIDNIGHT + 3600 * number, {"tokens": (texts, 1)})
        for _ in range(2):
            found = hours.read(found.plus(ended).dumps(), "hours", "k")
        counted.setdefault(number, texts)
        earlier = [counted[one] for one in sorted(counted) if one % 24 == number % 24 and one < number]
        slot = found.before(ended.start)
        assert slot.times == min(len(earlier), hours.KEPT["hours"])
        assert sum(slot.counts.get("tokens", (0, 0))) == sum(earlier[: hours.KEPT["hours"]]) + slot.times


def test_a_signal_that_an_hour_never_had_keeps_the_plain_reference() -> None:
    plain = {"tokens": Coarse("tokens", (5, 31), (10, 20)), "pieces": Coarse("pieces", (5, 39), (10, 20))}
    found = Hours("hours", "k")
    for day in range(4):
        found = found.plus(Hour(MIDNIGHT + DAY * day, {"tokens": (90, 10)}))
    seen, slot = hours.like_hours(plain, found, MIDNIGHT + 5 * DAY)
    assert slot
    assert seen["tokens"].counts == (360, 40)
    assert seen["pieces"] == plain["pieces"]


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(ValidationError, match="hoursOfWeek"):
        DriftSpec.model_validate({"compare": {"like": "days"}})
