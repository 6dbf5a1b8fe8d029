"""Copied requests: both halves meet, whoever tells first, and are compared without a text."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapchanger_serving.contract import names
from tapchanger_serving.observer import snapshot
from tapchanger_serving.observer.ingest import Ingest
from tapchanger_serving.observer.mirror import MOST_KINDS, OTHER, Meeting, Tally, Told, read
from tapchanger_serving.observer.spans import TRITON_MODEL, Span
from tapchanger_serving.observer.telling import mirror_window
from tapchanger_serving.observer.windows import Windows

STABLE, CANARY = "3f9d0c81aa", "8fa1e2077b"
NOW = 1_700_000_000.0
numbers = itertools.count(1)


def told(revision: str, *labels: str, seconds: float = 0.01, tokens: int = 10) -> Told:
    return Told(revision, NOW, seconds, tokens, labels or None, True)


def span(revision: str, trace: int, answers: Any = None, seconds: float = 0.01, **more: str) -> Span:
    attributes = {
        names.ATTR_NAMESPACE: "team-a",
        names.ATTR_DEPLOYMENT: "moderation",
        names.ATTR_REVISION: revision,
        names.ATTR_COMPONENT: names.COMPONENT_SERVER,
        names.ATTR_COMPUTE: "0.004",
        names.ATTR_TOKENS: "40",
        names.ATTR_BATCH: "1",
        names.ATTR_MIRROR: CANARY,
        TRITON_MODEL: "moderation",
        **({} if answers is None else {names.ATTR_ANSWERS: json.dumps(answers)}),
        **more,
    }
    end = int(NOW * 1e9)
    start = end - int(seconds * 1e9)
    identity = next(numbers).to_bytes(8, "big")
    return Span(
        trace.to_bytes(16, "big"),
        identity,
        b"parent01",
        "moderation",
        2,
        start,
        end,
        attributes,
        (("QUEUE_START", start),),
    )


def observed(*spans: Span) -> tuple[Windows, Ingest]:
    windows = Windows()
    ingest = Ingest(windows, lambda: NOW)
    ingest.take(spans, "http")
    return windows, ingest


def tally(windows: Windows) -> Tally:
    return windows.mirrors("team-a", "moderation", NOW - 60, NOW + 60)[CANARY, STABLE]


@pytest.mark.parametrize("turned", [False, True])
def test_the_halves_of_a_copied_request_meet_in_any_order(turned: bool) -> None:
    halves = [span(STABLE, 1, {"labels": ["ok", "toxic"]}), span(CANARY, 1, {"labels": ["ok", "ok"]}, seconds=0.05)]
    windows, _ = observed(*(reversed(halves) if turned else halves))
    window = mirror_window(CANARY, STABLE, tally(windows), (0.02,))
    assert (window.requests, window.compared, window.agreement, window.texts, window.alike) == (1, 1, 0.5, 2, 1)
    assert [(flip.stable, flip.canary, flip.texts) for flip in window.flips] == [("toxic", "ok", 1)]
    assert [(one.name, one.texts, one.alike) for one in window.labels] == [("ok", 1, 1), ("toxic", 1, 0)]
    assert [(one.name, one.texts, one.alike) for one in window.lengths] == [("<=64", 2, 1)]
    assert (window.canary_over[0].bad, window.stable_over[0].bad) == (1, 0)
    assert window.exemplars == ((1).to_bytes(16, "big").hex(),)


def test_a_copy_is_no_request_of_a_user() -> None:
    windows, _ = observed(span(STABLE, 1, {"labels": ["ok"]}), span(CANARY, 1, {"labels": ["ok"]}))
    series = {key.revision: one for key, one in windows.series()}
    assert (series[STABLE].totals.stages, series[CANARY].totals.stages) == (1, 0)
    assert list(windows.window("team-a", "moderation", NOW - 60, NOW + 60)) == [STABLE]


def test_how_sure_a_server_was_is_counted_of_what_users_got() -> None:
    copy = {names.ATTR_CONFIDENCE: "0.2"}
    windows, ingest = observed(
        span(STABLE, 1, {"labels": ["ok"]}, **{names.ATTR_CONFIDENCE: "0.9"}),
        span(STABLE, 2, {"labels": ["ok"]}, **{names.ATTR_CONFIDENCE: "0.5"}),
        span(CANARY, 2, {"labels": ["ok"]}, **copy),
        span(STABLE, 3, **{names.ATTR_CONFIDENCE: "1.5"}),
        span(STABLE, 4, **{names.ATTR_CONFIDENCE: "much"}),
    )
    found = windows.confidences("team-a", "moderation", NOW - 60, NOW + 60)
    assert list(found) == [STABLE]
    assert found[STABLE] == pytest.approx((2, 1.4, 1.06))
    assert ingest.account.refused["http", "malformed"] == 2
    again = Windows()
    snapshot.decode("".join(snapshot.encode(windows)), again)
    assert again.confidences("team-a", "moderation", NOW - 60, NOW + 60) == found


def test_one_half_alone_and_two_that_got_no_answer_say_nothing() -> None:
    windows, _ = observed(
        span(STABLE, 1, {"labels": ["ok"]}), span(CANARY, 2, {"labels": ["ok"]}), span(STABLE, 3), span(CANARY, 3)
    )
    assert windows.mirrors("team-a", "moderation", NOW - 60, NOW + 60) == {}


def test_who_alone_gave_no_answer_failed() -> None:
    windows, _ = observed(
        span(STABLE, 1, {"labels": ["ok"]}), span(CANARY, 1), span(CANARY, 2, {"labels": ["ok"]}), span(STABLE, 2)
    )
    found = tally(windows)
    assert (found.requests, found.compared, found.canary_failed, found.stable_failed) == (2, 0, 1, 1)
    assert mirror_window(CANARY, STABLE, found, (0.02,)).canary_over[0].bad == 1


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"labels": "ok"}', '{"labels": [1]}', '{"texts": ["a"]}', '{"sketches": [["a"]]}', '{"sketches": [[]]}',
     '{"labels": [], "digests": []}', json.dumps({"labels": ["a"] * 33}), "[" * 100_000],
)  # fmt: skip
def test_answers_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"tapchanger\.answers"):
        read(text)


def test_a_span_with_bad_answers_is_refused_and_nothing_else() -> None:
    bad = span(CANARY, 1, **{names.ATTR_ANSWERS: "{"})
    windows, ingest = observed(span(STABLE, 1, {"labels": ["ok"]}), bad)
    assert ingest.account.refused["http", "malformed"] == 1
    assert windows.mirrors("team-a", "moderation", NOW - 60, NOW + 60) == {}


def test_what_waits_is_bounded() -> None:
    meeting = Meeting(limit=2)
    canary = ("team-a", "moderation", CANARY)
    for trace in (b"1", b"2", b"3"):
        assert meeting.offer(canary, trace, told(STABLE, "ok")) is None
    assert meeting.offer(canary, b"1", told(CANARY, "ok")) is None
    assert meeting.offer(canary, b"3", told(CANARY, "ok")) == (told(STABLE, "ok"), told(CANARY, "ok"))


def test_labels_and_flips_are_bounded() -> None:
    found = Tally()
    for number in range(2 * MOST_KINDS):
        found.add(told(STABLE, f"a{number}"), told(CANARY, f"b{number}"), "t")
    assert len(found.flips) <= MOST_KINDS + 1
    assert len(found.texts) <= MOST_KINDS + 2
    assert found.flips[OTHER, OTHER] > 0
    assert found.flips.total() == found.rows == 2 * MOST_KINDS


ANSWERS = st.lists(st.sampled_from(["ok", "toxic", "spam"]), max_size=3).map(tuple)
PAIRS = st.lists(st.tuples(ANSWERS, ANSWERS, st.integers(0, 100)), max_size=20)


def counted(pairs: list[tuple[tuple[str, ...], tuple[str, ...], int]]) -> Tally:
    found = Tally()
    for stable, canary, tokens in pairs:
        found.add(told(STABLE, *stable, tokens=tokens), told(CANARY, *canary, tokens=tokens), "t")
    return found


@given(PAIRS, st.integers(0, 20))
def test_merged_pieces_equal_counting_all_in_one(pairs: Any, cut: int) -> None:
    merged, whole = counted(pairs[:cut]), counted(pairs)
    merged.absorb(counted(pairs[cut:]))
    assert merged.agreement == pytest.approx(whole.agreement)
    merged.agreement = whole.agreement
    assert merged == whole


@given(PAIRS)
def test_a_snapshot_keeps_all_of_it(pairs: Any) -> None:
    windows, again = Windows(), Windows()
    entry = windows.entry("team-a", "moderation")
    series = windows._series(entry, CANARY)
    series.mirrors.steps = {STABLE: {1_700_000_000: counted(pairs)}}
    snapshot.decode("".join(snapshot.encode(windows)), again)
    assert again.deployments["team-a", "moderation"].revisions[CANARY].mirrors == series.mirrors


def test_old_steps_are_dropped() -> None:
    windows, _ = observed(span(STABLE, 1, {"labels": ["ok"]}), span(CANARY, 1, {"labels": ["ok"]}))
    windows.tidy(NOW + windows.limits.keep_seconds + 20)
    assert windows.mirrors("team-a", "moderation", 0, NOW + 60) == {}
