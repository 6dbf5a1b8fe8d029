"""From Prometheus' answers to windows: what is counted, what is refused, and with which words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapchanger_operator import sources
from tapchanger_operator.observe import promql, spanmetrics
from tapchanger_operator.observe.prometheus import Prometheus
from tapchanger_operator.observe.promql import AnswerError, Line, Sample, Span
from tapchanger_operator.observe.windows import Observer
from tapchanger_operator.snapshot import Silence
from tapchanger_operator.sources import PrometheusSettings
from tapchanger_serving.contract.windows import RevisionWindow, Scores, Stages, Windows

NOW = 1_800_000_000.0
SPAN = Span(NOW - 60, NOW, 300)
GOOD = {"tapchanger_revision": "r1", "http_status_code": "200", "response_flags": "-"}
FAILED = GOOD | {"http_status_code": "503"}
SETTINGS = PrometheusSettings("http://prometheus.test", delay=15)


def told(term: str, labels: Mapping[str, str], le: str, value: float) -> Sample:
    return Sample({**labels, "le": le, promql.TERM: term}, value)


def whole(
    labels: Mapping[str, str], counts: Mapping[str, float], before: float = 0.0, collectors: int = 1
) -> list[Sample]:
    """The terms of one group of requests."""
    found = []
    for le, value in counts.items():
        found += [told(promql.END, labels, le, value + before), told(promql.SERIES, labels, le, collectors)]
        found += [told(promql.START, labels, le, before)] if before else []
    return found


def singles(**terms: float) -> list[Sample]:
    return [
        Sample({promql.TERM: term}, value)
        for term, value in ({"scraped": 1, "fresh": NOW - 2} | terms).items()
        if value
    ]


def answer(samples: list[Sample]) -> dict[str, Any]:
    rows = [{"metric": dict(labels), "value": [NOW, repr(float(value))]} for labels, value in samples]
    return {"status": "success", "data": {"resultType": "vector", "result": rows}}


class Away:
    """An observer that does not answer, or answers with `rest`."""

    def __init__(self, rest: Windows | None = None) -> None:
        self.rest = rest

    def __call__(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(503) if self.rest is None else httpx.Response(200, text=self.rest.dumps())


def source(
    handler: Callable[[httpx.Request], httpx.Response],
    rest: Windows | None = None,
    settings: PrometheusSettings = SETTINGS,
) -> Prometheus:
    observer = Observer("observer.test", None, httpx.Client(transport=httpx.MockTransport(Away(rest))))
    return Prometheus(settings, observer, lambda: NOW, httpx.Client(transport=httpx.MockTransport(handler)))


def saying(samples: list[Sample]) -> Callable[[httpx.Request], httpx.Response]:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("query_exemplars"):
            return httpx.Response(200, json={"status": "success", "data": []})
        return httpx.Response(200, json=answer(samples))

    return handler


BUCKETS = {"0.05": 90.0, "0.1": 95.0, "+Inf": 100.0}


def test_counts_are_what_counters_grew_by() -> None:
    samples = [*whole(GOOD, BUCKETS, before=7), *whole(FAILED, {"0.05": 4, "0.1": 4, "+Inf": 4}), *singles()]
    found = source(saying(samples)).windows("team-a", "moderation", NOW - 60, (0.05, 0.1))
    assert isinstance(found, Windows)
    (one,) = found.revisions
    assert (one.requests, one.unavailable, one.codes) == (104, 4, {"http/503": 4})
    assert [(over.threshold, over.bad) for over in one.over] == [(0.05, 14), (0.1, 9)]
    assert found.missing.startswith("where the time went, answers to copies and feedback are not known")


def test_the_observer_adds_what_it_alone_knows_and_no_counts() -> None:
    sample = RevisionWindow(
        revision="r1",
        requests=9,
        unavailable=9,
        stages=Stages(compute=0.01, spans=9),
        feedback=Scores(count=2, total=1.0),
    )
    other = RevisionWindow(revision="r2", requests=5, feedback=Scores(count=1))
    rest = Windows(namespace="team-a", deployment="moderation", now=NOW, since=0, until=NOW, revisions=(sample, other))
    found = source(saying([*whole(GOOD, BUCKETS), *singles()]), rest).windows("team-a", "moderation", NOW - 60, ())
    assert isinstance(found, Windows)
    assert found.missing == ""
    first, second = found.revisions
    assert (first.requests, first.unavailable, first.stages.spans, first.feedback.count) == (100, 0, 9, 2)
    assert (second.requests, second.feedback.count) == (0, 1)


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ([], "no request has come, or the Collector isn't told of them, or isn't scraped"),
        ([*whole(GOOD, BUCKETS), *singles(fresh=0)], "no sample that was newer than five minutes at that time"),
        ([*whole(GOOD, BUCKETS), *singles(fresh=0, down=1)], "1 of the Collectors that counted requests can't"),
        ([*whole(GOOD, BUCKETS), *singles(down=2)], "2 of the Collectors that counted requests can't be scraped now"),
        ([*whole(GOOD, BUCKETS), *singles(fresh=NOW - 40)], "newest sample was 40 s old at that time; set telemetry"),
        ([*whole(GOOD, {"0.1": 1, "+Inf": 1}), *singles()], "no bucket of the span metrics ends at 0.05 s, only at 0.1"),
        (
            [*whole(GOOD, {"0.05": 1}), *whole(GOOD, {"+Inf": 1}, collectors=2), *singles()],
            "not every Collector has counted to a bucket that ends at 0.05 s",
        ),
        ([*whole(GOOD, {"0.05": 1.5, "+Inf": 3.2}), *singles()], "no whole number: spans are counted by a weight"),
        ([*whole(GOOD | {"http_status_code": "x"}, BUCKETS), *singles()], "http.status_code: found 'x'"),
    ],
)  # fmt: skip
def test_what_can_not_be_counted_is_refused_in_words(samples: list[Sample], words: str) -> None:
    found = source(saying(samples)).windows("team-a", "moderation", NOW - 60, (0.05,))
    assert isinstance(found, Silence)
    assert words in found.why
    assert found.why.startswith("Prometheus gave no counts: ")


def test_native_histograms_are_refused() -> None:
    rows = [{"metric": GOOD, "histogram": [NOW, {"count": "1", "sum": "1", "buckets": []}]}]
    native = {"status": "success", "data": {"resultType": "vector", "result": rows}}
    found = source(lambda _: httpx.Response(200, json=native)).windows("team-a", "moderation", NOW - 60, (0.05,))
    assert isinstance(found, Silence)
    assert "native histogram, whose buckets end at no objective's latency" in found.why


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (httpx.Response(422, json={"status": "error", "errorType": "execution", "error": "too many"}), "execution: too many"),
        (httpx.Response(401, text="no"), "HTTPStatusError"),
        (httpx.Response(200, text="<html>"), "JSONDecodeError"),
        (httpx.Response(200, json=[]), "found '[]', expected an answer of Prometheus"),
        (httpx.Response(200, json={"status": "success", "data": {"resultType": "scalar", "result": []}}), "found a 'scalar'"),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_silence(reply: httpx.Response, words: str) -> None:
    found = source(lambda _: reply).windows("team-a", "moderation", NOW - 60, (0.05,))
    assert isinstance(found, Silence)
    assert words in found.why


def test_a_window_of_requests_is_one_of_samples_that_is_later() -> None:
    asked = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(parse_qs(request.content.decode()))
        return saying([*whole(GOOD, BUCKETS), *singles(fresh=NOW - 15)])(request)

    found = source(handler).windows("team-a", "moderation", NOW - 60, (), until=NOW - 20)
    assert isinstance(found, Windows)
    assert (found.since, found.until) == (NOW - 60, NOW - 20)
    (form,) = asked
    assert form["time"] == [f"{NOW - 5:.3f}"]
    assert f"@ {NOW - 45:.3f}" in form["query"][0]
    early = source(handler).windows("team-a", "moderation", NOW - 60, (), until=NOW - 5)
    assert isinstance(early, Silence)
    assert "has counted all requests until then in 10 s" in early.why


def test_credentials_are_read_anew_and_shown(tmp_path: Path) -> None:
    shown = []

    def handler(request: httpx.Request) -> httpx.Response:
        shown.append((request.headers.get("authorization"), request.headers.get("x-scope-orgid")))
        return saying([*whole(GOOD, BUCKETS), *singles()])(request)

    settings = PrometheusSettings("http://prometheus.test", credentials=tmp_path, headers={"X-Scope-OrgID": "team"})
    client = source(handler, settings=settings)
    unreadable = client.windows("team-a", "moderation", NOW - 60, ())
    assert isinstance(unreadable, Silence)
    assert "FileNotFoundError" in unreadable.why
    (tmp_path / "username").write_text("ask\n")
    (tmp_path / "password").write_text("secret\n")
    client.windows("team-a", "moderation", NOW - 60, ())
    (tmp_path / "token").write_text("t1\n")
    client.windows("team-a", "moderation", NOW - 60, ())
    assert shown == [("Basic YXNrOnNlY3JldA==", "team"), ("Bearer t1", "team")]


GROUP = spanmetrics.group_of(GOOD)


def test_a_counter_that_began_anew_goes_on_from_zero() -> None:
    line = Line({**GOOD, "le": "+Inf"}, [(NOW - 70, 10), (NOW - 50, 30), (NOW - 30, 4), (NOW - 10, 9)])
    assert spanmetrics.thorough([line], SPAN, scraped=True) == {GROUP: {math.inf: 29}}


def test_a_counter_whose_start_nobody_saw_counts_from_its_first_sample() -> None:
    line = Line({**GOOD, "le": "+Inf"}, [(NOW - 50, 1_000), (NOW - 10, 1_009)])
    assert spanmetrics.thorough([line], SPAN, scraped=False) == {GROUP: {math.inf: 9}}
    assert spanmetrics.thorough([line], SPAN, scraped=True) == {GROUP: {math.inf: 1_009}}


@given(
    st.lists(st.tuples(st.integers(0, 50), st.booleans()), min_size=1, max_size=30),
    st.integers(0, 29),
)
def test_every_request_counts_once_however_often_a_collector_begins_anew(
    steps: list[tuple[int, bool]], first: int
) -> None:
    """Requests between samples, of which some are the last before a restart that no sample saw."""
    value, points, counted = 0, [], 0
    start = NOW - 5 * (len(steps) - min(first, len(steps)))
    for number, (requests, restarts) in enumerate(steps):
        at = NOW - 5 * (len(steps) - 1 - number)
        value = requests if restarts else value + requests
        points.append((at, float(value)))
        counted += requests if at > start else 0
    grown = spanmetrics.thorough([Line({**GOOD, "le": "+Inf"}, points)], Span(start, NOW, 300), scraped=True)
    missed = sum(
        # A restart is noticed by a smaller value; one after which more came at once looks like going on.
        min(points[i - 1][1], points[i][1])
        for i in range(1, len(points))
        if steps[i][1] and points[i][1] >= points[i - 1][1] and points[i][0] > start
    )
    assert grown[GROUP][math.inf] <= counted
    assert grown[GROUP][math.inf] >= counted - missed


def test_quantiles_lie_in_their_buckets() -> None:
    found = spanmetrics.quantiles({0.01: 500, 0.05: 990, 0.1: 999, math.inf: 1_000})
    assert found.p50 is not None
    assert found.p99 is not None
    assert 0.0 < found.p50 <= 0.0101
    assert 0.01 < (found.p90 or 0) <= 0.05
    assert 0.01 < found.p99 <= 0.1
    assert found.p99_interval is not None
    assert (found.p99_interval.low, found.p99_interval.high) == (0.01, 0.1)
    assert spanmetrics.quantiles({math.inf: 0}).p50 is None


def test_exemplars_are_the_worst_first() -> None:
    series = [(GOOD, [("a", 0.2), ("b", 0.9)]), (FAILED, [("c", 0.01)]), (GOOD, [("a", 0.2)])]
    (found,) = spanmetrics.exemplars(series).values()
    assert [(one.trace_id, one.code) for one in found] == [("c", "http/503"), ("b", None), ("a", None)]


def test_names_are_quoted() -> None:
    text = promql.selector(PrometheusSettings("http://p", matchers={"cluster": 'a"b'}), "team-a", "x\\y")
    assert 'cluster="a\\"b"' in text
    assert 'tapchanger_deployment="x\\\\y"' in text


BASE = {"TAPCHANGER_TELEMETRY_SOURCE": "Prometheus", "TAPCHANGER_PROMETHEUS_URL": "http://p:9090/"}


def test_settings_are_read() -> None:
    assert sources.load({}) == sources.Telemetry()
    given_ = BASE | {
        "TAPCHANGER_SPANS_HOST": "collector", "TAPCHANGER_PROMETHEUS_DELAY": "40s",
        "TAPCHANGER_PROMETHEUS_MATCHERS": '{"a": "b"}',
        "TAPCHANGER_PROMETHEUS_CREDENTIALS": "/c", "TAPCHANGER_PROMETHEUS_CA": "/ca.crt",
    }  # fmt: skip
    found = sources.load(given_)
    wanted = PrometheusSettings(
        "http://p:9090", credentials=Path("/c"), ca=Path("/ca.crt"), delay=40.0, matchers={"a": "b"}
    )
    assert found == sources.Telemetry("collector", wanted)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("TAPCHANGER_TELEMETRY_SOURCE", "Loki", "write Observer or Prometheus"),
        ("TAPCHANGER_PROMETHEUS_URL", "p:9090", "write its address"),
        ("TAPCHANGER_PROMETHEUS_DELAY", "soon", "'soon' is not a duration"),
        ("TAPCHANGER_PROMETHEUS_TIMEOUT", "0s", "write a time above zero, such as 5s"),
        ("TAPCHANGER_PROMETHEUS_METRIC", "a-b", "write a histogram's name"),
        ("TAPCHANGER_PROMETHEUS_MATCHERS", '{"a b": "c"}', "'a b' is no label's name"),
        ("TAPCHANGER_PROMETHEUS_HEADERS", "[1]", "write a JSON object of texts"),
    ],
)
def test_a_wrong_setting_says_what_to_write(name: str, value: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as wrong:
        sources.load(BASE | {name: value})
    assert name in str(wrong.value)


def test_a_bucket_must_end_somewhere() -> None:
    with pytest.raises(AnswerError, match="expected a number of seconds"):
        spanmetrics.edge_of({"le": "wide"})
