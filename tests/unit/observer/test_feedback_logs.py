"""Feedback in OTLP logs: which records are meant, and nothing that comes instead does harm."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

from tapchanger_serving.observer import otlp_json, otlp_logs
from tapchanger_serving.observer.events import LogRecord, read
from tapchanger_serving.observer.feedback import FeedbackError
from tapchanger_serving.observer.spans import PayloadError

WHERE = {"tapchanger.namespace": "default", "tapchanger.deployment": "moderation"}
TRACE = bytes(range(16))


def record(event: str = "tapchanger.feedback", trace: bytes = TRACE, **attributes: Any) -> LogRecord:
    named = {name.replace("__", "."): value for name, value in attributes.items()}
    return LogRecord(event, trace, {**WHERE, **named})


def test_all_fields_are_read() -> None:
    found = read(
        record(
            tapchanger__feedback__label="safe",
            tapchanger__feedback__score=0.5,
            tapchanger__feedback__answered="unsafe",
            tapchanger__feedback__confidence=0.8,
            tapchanger__feedback__index=2,
            tapchanger__feedback__slice__source="tweets",
            tapchanger__revision="r1",
        )
    )
    assert found is not None
    assert found.model_dump(exclude_none=True) == {
        "namespace": "default",
        "deployment": "moderation",
        "revision": "r1",
        "id": TRACE.hex(),
        "index": 2,
        "score": 0.5,
        "label": "safe",
        "answered": "unsafe",
        "confidence": 0.8,
        "slices": {"source": "tweets"},
    }


def test_older_libraries_say_the_events_name_in_an_attribute_and_an_id_may_stand_for_the_trace() -> None:
    found = read(
        LogRecord(
            "",
            b"",
            {
                **WHERE,
                "event.name": "tapchanger.feedback",
                "tapchanger.feedback.id": "a",
                "tapchanger.feedback.score": 1,
            },
        )
    )
    assert found is not None
    assert (found.id, found.score) == ("a", 1)


@pytest.mark.parametrize(
    ("attributes", "score"),
    [
        ({"gen_ai__evaluation__score__value": 0.25}, 0.25),
        ({"gen_ai__evaluation__score__label": "Pass"}, 1.0),
        ({"gen_ai__evaluation__score__label": "incorrect"}, 0.0),
    ],
)
def test_an_evaluation_of_the_conventions_is_a_score(attributes: dict[str, Any], score: float) -> None:
    found = read(record("gen_ai.evaluation.result", gen_ai__evaluation__name="x", **attributes))
    assert found is not None
    assert (found.id, found.score, found.label) == (TRACE.hex(), score, None)
    by_response = read(record("gen_ai.evaluation.result", b"", gen_ai__response__id="r-1", **attributes))
    assert by_response is not None
    assert by_response.id == "r-1"


@pytest.mark.parametrize(
    "other",
    [
        record("http.server.request"),
        record("gen_ai.evaluation.result", error__type="timeout"),
        LogRecord("gen_ai.evaluation.result", TRACE, {"gen_ai.evaluation.score.value": 0.5}),
        LogRecord("", TRACE, {}),
    ],
)
def test_records_about_something_else_are_ignored(other: LogRecord) -> None:
    assert read(other) is None


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (record(), "nothing is said of the answer"),
        (record(trace=b"", tapchanger__feedback__label="safe"), "id: "),
        (record(tapchanger__feedback__score="good"), "score: found 'good'"),
        (record("gen_ai.evaluation.result", gen_ai__evaluation__score__value=7), "send a value from 0 to 1"),
        (record("gen_ai.evaluation.result", gen_ai__evaluation__score__label="meh"), "a label such as pass or fail"),
        (LogRecord("tapchanger.feedback", TRACE, {"tapchanger.feedback.score": 1}), "namespace"),
    ],
)
def test_a_record_that_can_not_be_meant_says_why(bad: LogRecord, words: str) -> None:
    with pytest.raises(FeedbackError) as refusal:
        read(bad)
    assert words in str(refusal.value)


def test_both_encodings_say_the_same() -> None:
    export = logs_service_pb2.ExportLogsServiceRequest()
    logs = export.resource_logs.add()
    logs.resource.attributes.add(key="tapchanger.namespace").value.string_value = "default"
    one = logs.scope_logs.add().log_records.add(event_name="tapchanger.feedback", trace_id=TRACE)
    one.attributes.add(key="tapchanger.feedback.index").value.int_value = 3
    one.attributes.add(key="tapchanger.feedback.score").value.double_value = 0.5
    one.attributes.add(key="list").value.array_value.SetInParent()
    text = {
        "resourceLogs": [
            {
                "resource": {"attributes": [{"key": "tapchanger.namespace", "value": {"stringValue": "default"}}]},
                "scopeLogs": [
                    {
                        "logRecords": [
                            {
                                "eventName": "tapchanger.feedback",
                                "traceId": TRACE.hex(),
                                "attributes": [
                                    {"key": "tapchanger.feedback.index", "value": {"intValue": "3"}},
                                    {"key": "tapchanger.feedback.score", "value": {"doubleValue": 0.5}},
                                    {"key": "list", "value": {"arrayValue": {}}},
                                ],
                            }
                        ]
                    }
                ],
            }
        ]
    }
    found = list(otlp_json.decode_logs(json.dumps(text).encode()))
    assert found == list(otlp_logs.decode(export.SerializeToString()))
    assert found[0].attributes == {
        "tapchanger.namespace": "default",
        "tapchanger.feedback.index": 3,
        "tapchanger.feedback.score": 0.5,
    }


@pytest.mark.parametrize("odd", ["²", "--1", "9" * 30, "", 1.5, None])
def test_a_number_that_is_none_is_refused_in_words(odd: Any) -> None:
    attribute = {"key": "tapchanger.feedback.index", "value": {"intValue": odd}}
    where = [{"key": key, "value": {"stringValue": value}} for key, value in WHERE.items()]
    label = {"key": "tapchanger.feedback.label", "value": {"stringValue": "safe"}}
    one = {"eventName": "tapchanger.feedback", "traceId": TRACE.hex(), "attributes": [*where, label, attribute]}
    payload = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [one]}]}]}).encode()
    (found,) = otlp_json.decode_logs(payload)
    if odd is None:
        assert read(found) is not None, "an attribute without a value is none"
        return
    with pytest.raises(FeedbackError, match="index"):
        read(found)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "resourceLogs",
                    "scopeLogs",
                    "logRecords",
                    "attributes",
                    "key",
                    "value",
                    "stringValue",
                    "traceId",
                    "eventName",
                    "resource",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=300)
@given(st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_ends_in_feedback_or_in_words(payload: bytes) -> None:
    for decode in (otlp_json.decode_logs, otlp_logs.decode):
        try:
            for one in decode(payload):
                read(one)
        except (PayloadError, FeedbackError):
            continue
