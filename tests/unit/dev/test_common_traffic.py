"""What is concluded from statuses and answers: stages, shares and the seconds of a rollback."""

from __future__ import annotations

from typing import Any

import pytest

from dev.common.follow import Seen, Stage, stages
from dev.common.traffic import CHANGE_SECONDS, Answer, failed, rollback_seconds, shares

NOON = 1_800_000_000.0


def status(at: float, weight: int | None, since: str | None = None, revision: str = "new") -> Seen:
    canary: dict[str, Any] | None = None
    if weight is not None:
        canary = {"revision": revision, "weight": weight, **({"stepStartedAt": since} if since else {})}
    return Seen(at, {"status": {"canary": canary} if canary else {}})


def answer(sent: float, revision: str | None, code: str = "OK", seconds: float = 0.01) -> Answer:
    return Answer(sent, sent + seconds, revision, code)


def test_a_stage_ends_where_the_operator_began_the_next() -> None:
    seen = [
        status(NOON, None),
        status(NOON + 1, 0),
        status(NOON + 5, 5, "2027-01-15T08:00:04Z"),
        status(NOON + 6, 5, "2027-01-15T08:00:04Z"),
        status(NOON + 15, 25, "2027-01-15T08:00:14Z"),
        status(NOON + 30, None),
        status(NOON + 40, None),
    ]
    assert stages(seen, NOON + 40) == [
        Stage("new", 5, NOON + 4, NOON + 14),
        Stage("new", 25, NOON + 14, NOON + 30),
    ]


def test_a_stage_that_goes_on_ends_with_the_observation() -> None:
    assert stages([status(NOON, 5, "2027-01-15T08:00:00Z")], NOON + 9) == [Stage("new", 5, NOON, NOON + 9)]


def test_another_canary_begins_a_stage_of_its_own() -> None:
    seen = [
        status(NOON, 5, "2027-01-15T08:00:00Z"),
        status(NOON + 10, None),
        status(NOON + 20, 5, "2027-01-15T08:00:20Z", "newer"),
    ]
    assert stages(seen, NOON + 30) == [Stage("new", 5, NOON, NOON + 10), Stage("newer", 5, NOON + 20, NOON + 30)]


def test_a_share_counts_what_was_sent_once_the_routers_must_know() -> None:
    early = [answer(NOON + 0.1 * n, "old") for n in range(10)]
    settled = [answer(NOON + CHANGE_SECONDS + 0.1 * n, "new" if n % 4 == 0 else "old") for n in range(20)]
    late = [answer(NOON + 10, "new")]
    (share,) = shares([*early, *settled, *late], [Stage("new", 25, NOON, NOON + 10)])
    assert (share.wanted, share.seen, share.requests) == (25, 25.0, 20)
    assert share.error == pytest.approx(100 * (0.25 * 0.75 / 20) ** 0.5)


def test_a_stage_without_requests_has_no_share() -> None:
    assert shares([], [Stage("new", 25, NOON, NOON + 10)]) == []


def test_a_rollback_lasts_from_the_first_bad_answer_to_the_canarys_last() -> None:
    answers = [
        answer(NOON, "new"),
        answer(NOON + 1, "old", "INTERNAL"),
        answer(NOON + 2, "new", "INTERNAL"),
        answer(NOON + 5, "new"),
        answer(NOON + 7, "old"),
    ]
    assert rollback_seconds(answers, "new", lambda one: one.failed) == pytest.approx(3.0)
    assert rollback_seconds(answers, "newer", lambda one: one.failed) is None
    assert [one.sent - NOON for one in failed(answers)] == [1, 2]
