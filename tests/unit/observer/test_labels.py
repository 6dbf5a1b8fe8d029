"""Labels that come later: laid beside the answer that is remembered, counted once, put right, and told with the windows."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from tapchanger_serving.contract import names
from tapchanger_serving.contract.feedback import Feedback, FeedbackAnswer
from tapchanger_serving.contract.labels import COARSE, KEPT, OTHER, STEP, LabelWindow
from tapchanger_serving.contract.windows import Windows
from tapchanger_serving.observer import api, part, snapshot
from tapchanger_serving.observer.answers import Answers
from tapchanger_serving.observer.feedback import Desk, FeedbackError, parsed
from tapchanger_serving.observer.ingest import Ingest
from tapchanger_serving.observer.keys import Key
from tapchanger_serving.observer.labels import MOST_LABELS, MOST_SLICES, Judged, Labels, squeeze
from tapchanger_serving.observer.labels import Tally as LabelTally
from tapchanger_serving.observer.question import read
from tapchanger_serving.observer.reception import Reception
from tapchanger_serving.observer.spans import HTTP_STATUS, REQUEST_ID, TRITON_MODEL, Span
from tapchanger_serving.observer.trust import EVERYTHING
from tapchanger_serving.observer.windows import Windows as Store

NOW = 1_700_000_100.0
KEY = Key("default", "moderation", "r1")
WHERE = {names.ATTR_NAMESPACE: "default", names.ATTR_DEPLOYMENT: "moderation"}


def trace(number: int) -> bytes:
    return number.to_bytes(16)


def router(number: int, revision: str = "r1", request_id: str = "", span: int = 1, at: float = NOW) -> Span:
    attributes = {
        **WHERE,
        names.ATTR_REVISION: revision,
        names.ATTR_COMPONENT: names.COMPONENT_ROUTER,
        HTTP_STATUS: "200",
        REQUEST_ID: request_id,
    }
    end = int(at * 1e9)
    return Span(trace(number), span.to_bytes(8), b"", "ingress", 2, end - 10**7, end, attributes, ())


def server(number: int, rows: Any, revision: str = "r1", span: int = 1, at: float = NOW) -> Span:
    attributes = {
        **WHERE,
        names.ATTR_REVISION: revision,
        names.ATTR_COMPONENT: names.COMPONENT_SERVER,
        TRITON_MODEL: "moderation",
        names.ATTR_COMPUTE: "0.001",
        names.ATTR_TOKENS: "40",
        names.ATTR_ANSWERED: json.dumps(rows),
    }
    end = int(at * 1e9)
    own = (1000 + span).to_bytes(8)
    return Span(
        trace(number),
        own,
        span.to_bytes(8),
        "moderation",
        2,
        end - 10**7,
        end,
        attributes,
        (("QUEUE_START", end - 10**7),),
    )


class Seen:
    """An observer's insides, without its ports."""

    def __init__(self) -> None:
        self.store = Store()
        self.ingest = Ingest(self.store, lambda: NOW)
        self.desk = Desk(self.store)

    def spans(self, *spans: Span) -> None:
        result = self.ingest.take(spans, "grpc")
        assert not result.refused, result.why

    def answered(self, number: int, label: str, score: float = 0.9, **where: Any) -> None:
        self.spans(router(number, **where), server(number, [[label, score]], **where))

    def say(self, *entries: dict[str, Any], now: float = NOW) -> FeedbackAnswer:
        items = [
            Feedback.model_validate({"namespace": "default", "deployment": "moderation", **one}) for one in entries
        ]
        return self.desk.take(items, now).answer(items)

    def window(self, revision: str = "r1", since: float = NOW - 600, until: float = NOW + 600) -> LabelWindow:
        found = told(self.store, since, until)
        return found[revision] if revision in found else LabelWindow()


def told(store: Store, since: float, until: float) -> dict[str, LabelWindow]:
    query = MultiDict(
        [("namespace", "default"), ("deployment", "moderation"), ("since", str(since)), ("until", str(until))]
    )
    found = Windows.model_validate_json(api.answer(store, query, NOW).dumps())
    return {window.revision: window.labels for window in found.revisions}


@pytest.fixture
def seen() -> Seen:
    return Seen()


def test_a_label_by_trace_id_is_laid_beside_what_was_answered(seen: Seen) -> None:
    seen.answered(1, "safe", 0.9)
    seen.answered(2, "unsafe", 0.6)
    answer = seen.say(
        {"id": trace(1).hex(), "label": "safe"}, {"id": trace(2).hex(), "label": "safe", "slices": {"source": "tweets"}}
    )
    assert (answer.counted, answer.duplicates, answer.refused) == (2, 0, None)
    window = seen.window()
    assert (window.labelled, window.right, window.sure) == (2, 1, 2)
    assert window.brier == pytest.approx(0.1**2 + 0.6**2)
    slices = {one.name: (one.labelled, one.right) for one in window.slices}
    assert slices == {
        "answer=safe": (1, 1),
        "answer=unsafe": (1, 0),
        "label=safe": (2, 1),
        "tokens<=64": (2, 1),
        "source=tweets": (1, 0),
    }
    assert [(one.number, one.labelled, one.right) for one in window.bins] == [(9, 1, 0), (13, 1, 1)]
    assert {one.label: (one.texts, one.labelled) for one in window.answered} == {"safe": (1, 1), "unsafe": (1, 1)}


def test_a_request_id_will_do_whatever_the_router_wrote_into_it(seen: Seen) -> None:
    sent = "5F0c1b9e-8f39-4d0e-9a53-0b5a1c6b7d11"
    traced = sent[:14] + "9" + sent[15:]
    seen.spans(router(1, request_id=traced), server(1, [["safe", 0.9]]))
    seen.spans(router(2, request_id="order-77"), server(2, [["safe", 0.9]]))
    assert seen.say({"id": sent, "label": "safe"}).counted == 1
    assert seen.say({"id": "order-77", "label": "safe"}).counted == 1


@pytest.mark.parametrize("first", ["router", "server"])
def test_spans_may_come_in_either_order_and_the_time_is_the_routers(seen: Seen, first: str) -> None:
    spans = [router(1, at=NOW - 120), server(1, [["safe", 0.9]], at=NOW - 121)]
    for span in spans if first == "router" else reversed(spans):
        seen.spans(span)
    found = seen.store.memory.answers.recall("default", "moderation", trace(1).hex())
    assert found is not None
    assert (found.key, found.end, found.rows) == (KEY, int(NOW - 120), (("safe", 0.9),))


def test_the_last_label_of_a_request_counts_and_the_counts_stay_right(seen: Seen) -> None:
    seen.answered(1, "safe")
    who = {"id": trace(1).hex()}
    assert seen.say({**who, "label": "safe"}).counted == 1
    again = seen.say({**who, "label": "safe"})
    assert (again.counted, again.duplicates) == (0, 1)
    changed = seen.say({**who, "correction": "unsafe"}, now=NOW + 300)
    assert (changed.counted, changed.replaced) == (1, 1)
    window = seen.window()
    assert (window.labelled, window.right, window.corrections) == (1, 0, 1)
    assert {one.name for one in window.slices} == {"answer=safe", "label=unsafe", "tokens<=64"}
    came = seen.store.of(KEY).labels_came
    assert came.window(NOW, NOW + 10)[:2] == (1, 0.0), "in the step in which the first label came"
    assert came.window(NOW + 20, NOW + 600).number == 0


def test_without_a_server_span_the_sender_says_what_was_answered(seen: Seen) -> None:
    seen.spans(router(1))
    refused = seen.say({"id": trace(1).hex(), "label": "safe"})
    assert refused.counted == 0
    assert "send answered" in (refused.refused or ())[0].why
    assert seen.say({"id": trace(1).hex(), "label": "safe", "answered": "unsafe", "confidence": 0.7}).counted == 1
    window = seen.window()
    assert (window.labelled, window.right, window.sure, window.answered) == (1, 0, 1, ())


def test_a_forgotten_request_counts_by_its_revision_and_its_span_that_comes_late_changes_nothing(seen: Seen) -> None:
    seen.answered(9, "safe")
    entry = {"id": trace(1).hex(), "revision": "r1", "label": "safe", "answered": "safe"}
    assert seen.say(entry).counted == 1
    seen.answered(1, "safe")
    assert seen.say({"id": trace(1).hex(), "label": "unsafe"}).replaced == 1
    assert (seen.window().labelled, seen.window().right) == (1, 0)


def test_of_several_texts_one_is_named(seen: Seen) -> None:
    seen.spans(router(1), server(1, [["safe", 0.9], ["unsafe", 0.8]]))
    who = {"id": trace(1).hex()}
    assert "say which is meant" in (seen.say({**who, "label": "unsafe"}).refused or ())[0].why
    assert seen.say({**who, "index": 1, "label": "unsafe"}, {**who, "index": 0, "label": "unsafe"}).counted == 2
    assert "it had 2 texts" in (seen.say({**who, "index": 2, "label": "safe"}).refused or ())[0].why
    assert (seen.window().labelled, seen.window().right) == (2, 1)


def test_a_trace_with_several_requests_needs_the_request_id(seen: Seen) -> None:
    seen.spans(router(1, request_id="a", span=1), router(1, request_id="b", span=2))
    seen.spans(server(1, [["safe", 0.9]], span=1), server(1, [["unsafe", 0.9]], span=2))
    assert "x-request-id" in (seen.say({"id": trace(1).hex(), "label": "safe"}).refused or ())[0].why
    assert seen.say({"id": "a", "label": "safe"}, {"id": "b", "label": "unsafe"}).counted == 2
    assert seen.window().right == 2


def test_a_proxy_between_router_and_server_does_not_hide_the_answer(seen: Seen) -> None:
    seen.spans(router(1, request_id="a", span=1), server(1, [["safe", 0.9]], span=7))
    assert seen.say({"id": "a", "label": "safe"}).counted == 1
    assert seen.say({"id": trace(1).hex(), "label": "safe"}).duplicates == 1
    later = Seen()
    snapshot.decode("".join(snapshot.encode(seen.store)), later.store)
    assert later.say({"id": "a", "label": "unsafe"}).replaced == 1


async def test_of_several_observers_none_believes_a_sender_before_the_others_were_asked(seen: Seen) -> None:
    class Nobody:
        asked = 0

        async def hand_on(self, item: Feedback, authorization: str | None) -> None:
            self.asked += 1

    seen.spans(router(1))
    items = [Feedback(namespace="default", deployment="moderation", id=trace(1).hex(), label="a", answered="a")]
    others: Any = Nobody()
    reception = Reception(seen.store, lambda: NOW, others, patience=0)
    assert (await reception.take(items, EVERYTHING, alone=True)).unknown == [0]
    assert (await reception.take(items, EVERYTHING)).answer(items).counted == 1
    assert others.asked == 1


def test_another_revision_than_the_one_that_answered_is_refused(seen: Seen) -> None:
    seen.answered(1, "safe")
    refused = seen.say({"id": trace(1).hex(), "revision": "r2", "label": "safe"}).refused or ()
    assert "was answered by r1" in refused[0].why


def test_an_unknown_id_is_refused_with_what_to_do_and_a_score_by_id_finds_its_revision(seen: Seen) -> None:
    seen.answered(1, "safe")
    assert "no request of default/moderation" in (seen.say({"id": "nobody", "score": 1}).refused or ())[0].why
    assert seen.say({"id": trace(1).hex(), "score": 1}).counted == 1
    assert seen.store.of(KEY).scores.window(NOW, NOW + 10).number == 1


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({}, "nothing is said of the answer; send score, label or correction"),
        ({"label": "a", "correction": "b"}, "send one of them"),
        ({"label": "a", "slices": {"answer": "x"}}, "slices: found 'answer'"),
        ({"label": "a", "slices": {str(one): "x" for one in range(9)}}, "slices"),
        ({"label": ""}, "label: found ''"),
        ({"label": "a", "index": -1}, "index: found '-1'"),
        ({"label": "a", "confidence": 2}, "confidence: found '2'"),
    ],
)
def test_feedback_that_cannot_be_meant_says_why(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(FeedbackError) as refusal:
        parsed(json.dumps({"namespace": "default", "deployment": "moderation", "id": "x", **entry}))
    assert words in str(refusal.value)


def test_all_of_it_survives_a_restart(seen: Seen) -> None:
    seen.spans(router(1, request_id="order-1"), server(1, [["safe", 0.9]]))
    seen.answered(2, "unsafe")
    seen.say({"id": trace(1).hex(), "label": "safe", "slices": {"source": "tweets"}})
    later = Seen()
    snapshot.decode("".join(snapshot.encode(seen.store)), later.store)
    assert later.window() == seen.window()
    assert later.say({"id": "order-1", "label": "unsafe"}).replaced == 1
    assert later.say({"id": trace(2).hex(), "label": "unsafe"}).counted == 1
    assert (later.window().labelled, later.window().right) == (2, 1)


def test_old_minutes_become_hours_and_then_go() -> None:
    labels = Labels()
    at = int(NOW)
    labels.add(Judged(at, True, False, None, "safe", True, ("answer=safe",), NOW))
    labels.tidy(NOW + 2 * COARSE, NOW + 2 * COARSE)
    assert (len(labels.minutes), len(labels.hours)) == (0, 1)
    hour = at - at % COARSE
    assert labels.window(hour, NOW + 9).labelled == 1
    assert labels.window(hour + STEP, NOW + 9).labelled == 0, "an hour that began before is not laid beside a canary"
    labels.add(Judged(at + 1, False, False, None, "safe", True, (), NOW))
    labels.take_out(Judged(at, True, False, None, "safe", True, ("answer=safe",), NOW))
    assert (labels.window(hour, NOW + 9).labelled, labels.window(hour, NOW + 9).right) == (1, 0)
    labels.tidy(NOW, NOW + KEPT + 2 * COARSE)
    assert labels.size() == 0


def test_memory_is_bounded(seen: Seen) -> None:
    answers = Answers(10)
    for number in range(100):
        answers.asked(KEY, trace(number) + bytes(8), NOW, f"request-{number}")
    kept = [number for number in range(100) if answers.recall("default", "moderation", trace(number).hex())]
    assert 10 <= len(kept) <= 20
    assert kept[-1] == 99
    assert answers.recall("default", "moderation", "request-99")
    assert answers.recall("default", "moderation", "request-0") is None
    labels = Labels()
    for number in range(3 * MOST_LABELS):
        labels.tell(NOW, [f"label-{number}"])
        labels.add(Judged(int(NOW), True, False, None, "x", False, labels.slices([("id", str(number))]), NOW))
    tally = labels.window(NOW - 60, NOW + 60)
    assert set(tally.texts) == {*(f"label-{number}" for number in range(MOST_LABELS)), OTHER}
    assert len(tally.slices) == MOST_SLICES
    assert "id=191" in tally.slices
    many = [Labels() for _ in range(4)]
    for one, step in itertools.product(many, range(100)):
        one.tell(NOW - 60 * step, ["safe"])
    squeeze(many, NOW, 5)
    assert sum(one.size() for one in many) <= 5 + 4 * 60


OUTCOMES = st.lists(
    st.tuples(
        st.integers(0, 3_000),
        st.booleans(),
        st.booleans(),
        st.none() | st.integers(0, 10),
        st.sampled_from("abc"),
        st.booleans(),
    ),
    max_size=60,
)


def _judged(outcomes: list[tuple[Any, ...]]) -> list[Judged]:
    return [
        Judged(
            int(NOW) + at, right, fixed, None if sure is None else sure / 10, label, told_, (f"answer={label}",), NOW
        )
        for at, right, fixed, sure, label, told_ in outcomes
    ]


@given(OUTCOMES, st.integers(0, 60))
def test_two_observers_together_say_what_one_would(outcomes: list[tuple[Any, ...]], cut: int) -> None:
    whole, first, second = Store(), Store(), Store()
    for number, one in enumerate(_judged(outcomes)):
        for store in (whole, first if number < cut else second):
            store.of(KEY).labels.add(one)
            store.of(KEY).labels.tell(one.at, [one.answered])
            store.of(KEY).labels_came.add(one.came, float(one.right))
    query = MultiDict(
        [("namespace", "default"), ("deployment", "moderation"), ("since", str(NOW - 60)), ("until", str(NOW + 4_000))]
    )
    question = read(query, NOW, 16)
    both = part.merge([part.decode(part.encode(part.of(store, question))) for store in (first, second)])
    one_tells, both_tell = (part.tell(question, found, NOW) for found in (part.of(whole, question), both))
    for mine, theirs in zip(one_tells.revisions, both_tell.revisions, strict=True):
        assert mine.labels.model_copy(update={"brier": 0.0, "bins": ()}) == theirs.labels.model_copy(
            update={"brier": 0.0, "bins": ()}
        )
        assert mine.labels.brier == pytest.approx(theirs.labels.brier)
        assert mine.labels_came == theirs.labels_came


@given(OUTCOMES, st.integers(0, 3_600))
def test_taking_out_leaves_what_was_there_before(outcomes: list[tuple[Any, ...]], fine: int) -> None:
    labels, plain = Labels(), Labels()
    kept, gone = _judged(outcomes[::2]), _judged(outcomes[1::2])
    for one in kept:
        plain.add(one)
    for one in (*kept, *gone):
        labels.add(one)
    for both in (labels, plain):
        both.coarsen(NOW + fine)
    for one in gone:
        labels.take_out(one)
    mine, theirs = (both.window(0, NOW + 9_999) for both in (labels, plain))
    assert (mine.labelled, mine.right, mine.corrections, mine.sure) == (
        theirs.labelled,
        theirs.right,
        theirs.corrections,
        theirs.sure,
    )
    assert mine.told().slices == theirs.told().slices
    assert mine.brier == pytest.approx(theirs.brier)


def test_a_tally_reads_what_it_wrote() -> None:
    tally = LabelTally()
    for one in _judged([(1, True, False, 9, "a", True), (2, False, True, None, "b", False)]):
        tally.add(one)
    assert LabelTally.of(json.loads(json.dumps(tally.row()))) == tally


async def test_a_label_that_comes_before_its_spans_is_waited_for(seen: Seen) -> None:
    reception = Reception(seen.store, lambda: NOW, patience=0.5)
    items = [Feedback(namespace="default", deployment="moderation", id=trace(1).hex(), label="safe")]
    seen.answered(2, "safe")
    taking = asyncio.create_task(reception.take(items, EVERYTHING))
    await asyncio.sleep(0.05)
    assert not taking.done()
    seen.answered(1, "safe")
    assert (await taking).answer(items).counted == 1
    unknown = await Reception(seen.store, lambda: NOW, patience=0).take(
        [items[0].model_copy(update={"id": "no"})], EVERYTHING
    )
    assert unknown.unknown == [0]


@pytest.mark.parametrize(
    "told_", ["x", "{}", '[["safe"]]', '[["safe", 2]]', "[[1, 0.5]]", '[["", 0.5]]', json.dumps([["a", 0.5]] * 17)]
)
def test_answers_that_are_none_are_refused(seen: Seen, told_: str) -> None:
    span = server(1, [])
    span.attributes[names.ATTR_ANSWERED] = told_
    result = seen.ingest.take([span], "grpc")
    assert (result.refused, "tapchanger.answered" in result.why) == (int(told_ != "{}"), told_ != "{}")
