"""Users' scores: counted once, for revisions that answered, and told with the windows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict
from prometheus_client import CollectorRegistry

from tapchanger_serving.contract.feedback import FeedbackAnswer
from tapchanger_serving.contract.outcome import Outcome
from tapchanger_serving.contract.windows import Scores, Windows
from tapchanger_serving.observer import api, snapshot
from tapchanger_serving.observer.asking import Asking
from tapchanger_serving.observer.bucket import Request
from tapchanger_serving.observer.feedback import Desk, FeedbackError, parsed
from tapchanger_serving.observer.gate import Gate
from tapchanger_serving.observer.reception import Reception
from tapchanger_serving.observer.scores import STEP, Tally
from tapchanger_serving.observer.scores import Scores as Steps
from tapchanger_serving.observer.windows import Key
from tapchanger_serving.observer.windows import Windows as Store

NOW = 1_700_000_100.0
KEY = Key("default", "moderation", "r1")


@pytest.fixture
def store() -> Store:
    made = Store()
    made.add(KEY, Request(NOW - 50, 0.01, Outcome("grpc/0", failed=False), b"a" * 16))
    return made


def score(**fields: Any) -> dict[str, Any]:
    named = {"namespace": "default", "deployment": "moderation", "revision": "r1", "id": "one", "score": 1}
    return {**named, **fields}


def taken_by(desk: Desk, body: Any, now: float = NOW) -> FeedbackAnswer:
    items = parsed(json.dumps(body))
    return desk.take(items, now).answer(items)


def asked(store: Store, since: float, until: float) -> dict[str, Scores]:
    query = MultiDict(
        [("namespace", "default"), ("deployment", "moderation"), ("since", str(since)), ("until", str(until))]
    )
    found = Windows.model_validate_json(api.answer(store, query, NOW).dumps())
    return {window.revision: window.feedback for window in found.revisions}


def test_scores_come_back_with_the_windows_of_the_time_at_which_they_came(store: Store) -> None:
    desk = Desk(store)
    taken = taken_by(desk, [score(), score(id="two", score=0.5), score(id="three", score=0)])
    assert (taken.counted, taken.duplicates) == (3, 0)
    taken_by(desk, score(id="four", score=0.25), NOW + STEP)
    assert asked(store, NOW, NOW + STEP) == {"r1": Scores(count=3, total=1.5, squares=1.25)}
    assert asked(store, NOW + STEP, NOW + 2 * STEP) == {"r1": Scores(count=1, total=0.25, squares=0.0625)}
    assert asked(store, NOW - 60, NOW + 60)["r1"].count == 4


def test_an_id_counts_once_for_its_deployment(store: Store) -> None:
    store.add(Key("default", "other", "r1"), Request(NOW, 0.01, Outcome("grpc/0", failed=False), b"b" * 16))
    desk = Desk(store)
    assert taken_by(desk, [score(), score(score=0)]).duplicates == 1
    assert taken_by(desk, score(score=0)).duplicates == 1
    assert taken_by(desk, score(deployment="other")).counted == 1
    assert asked(store, NOW, NOW + STEP) == {"r1": Scores(count=1, total=1, squares=1)}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{", "the body is no JSON"),
        ("[]", "found 0 entries; send 1 to 1000"),
        (json.dumps([score()] * 1001), "found 1001 entries"),
        (json.dumps(score(score=1.5)), "score: found '1.5'"),
        (json.dumps(score(score=-0.1)), "score: found"),
        (json.dumps(score(id="")), "id: found ''"),
        (json.dumps([score(), score(score="good")]), "1.score: found 'good'"),
        (json.dumps({"score": 1}), "namespace: "),
        ("3", "the body: found '3'"),
    ],
)
def test_scores_that_cannot_be_taken_say_why_and_nothing_is_counted(store: Store, body: str, words: str) -> None:
    with pytest.raises(FeedbackError) as refusal:
        Desk(store).take(parsed(body), NOW)
    assert words in str(refusal.value)
    assert asked(store, NOW - 60, NOW + 60)["r1"].count == 0


def test_a_revision_that_answered_nothing_is_refused_and_its_neighbours_count(store: Store) -> None:
    desk = Desk(store)
    answer = taken_by(desk, [score(), score(revision="r9", id="two")])
    assert (answer.counted, [one.id for one in answer.refused or ()]) == (1, ["two"])
    assert "r9 of default/moderation answered nothing" in (answer.refused or ())[0].why
    assert taken_by(desk, score(id="two")).counted == 1, "the id is not used up by a refusal"


def test_scores_survive_a_restart_and_are_forgotten_in_time(store: Store) -> None:
    taken_by(Desk(store), score(score=0.5))
    restored = Store()
    snapshot.decode("".join(snapshot.encode(store)), restored)
    assert asked(restored, NOW, NOW + STEP) == {"r1": Scores(count=1, total=0.5, squares=0.25)}
    restored.tidy(NOW + restored.limits.keep_seconds + STEP)
    assert restored.deployments["default", "moderation"].revisions["r1"].scores.steps == {}


def test_a_snapshot_from_before_there_were_scores_is_read(store: Store) -> None:
    state = json.loads("".join(snapshot.encode(store)))
    del state["deployments"][0]["revisions"][0]["scores"]
    restored = Store()
    snapshot.decode(json.dumps(state), restored)
    assert restored.knows(KEY)


@given(st.lists(st.tuples(st.integers(0, 200), st.floats(0, 1)), max_size=40), st.integers(1, 19))
def test_adjoining_windows_count_each_score_exactly_once(scores: list[tuple[int, float]], cut: int) -> None:
    steps = Steps()
    for at, value in scores:
        steps.add(NOW + at, value)
    begin, end, between = NOW, NOW + 210, NOW + 10 * cut
    both = steps.window(begin, between).plus(steps.window(between, end))
    assert both.number == len(scores) == steps.window(begin, end).number
    assert both.total == pytest.approx(sum(value for _, value in scores))
    assert steps.window(end, end + 100) == Tally()


async def test_over_http_each_outcome_has_its_status(store: Store) -> None:
    app = api.application(
        api.Api(
            store,
            CollectorRegistry(),
            lambda: NOW,
            lambda: True,
            Asking(Gate(None, lambda: NOW)),
            reception=Reception(store, lambda: NOW, patience=0),
        )
    )
    async with TestClient(TestServer(app)) as client:
        for body, status, words in (
            (score(), 200, '{"counted":1,"duplicates":0}'),
            (score(), 200, '{"counted":0,"duplicates":1}'),
            (score(revision="r9", id="x"), 404, "answered nothing"),
            (score(score=2), 400, "score: found '2'"),
        ):
            answer = await client.post("/v1/feedback", json=body)
            assert (answer.status, words in await answer.text()) == (status, True)
