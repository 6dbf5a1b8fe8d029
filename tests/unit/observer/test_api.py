from __future__ import annotations

import pytest
from multidict import MultiDict

from tapchanger_serving.contract.outcome import Outcome, judge
from tapchanger_serving.contract.windows import LatencyCount, LengthCount, NodeCount, Windows
from tapchanger_serving.observer import api, metrics
from tapchanger_serving.observer.breakdown import Stage
from tapchanger_serving.observer.bucket import Request
from tapchanger_serving.observer.ingest import Account
from tapchanger_serving.observer.windows import Key
from tapchanger_serving.observer.windows import Windows as Store

NOW = 1_700_000_100.0
WHO = [("namespace", "default"), ("deployment", "moderation")]


@pytest.fixture
def store() -> Store:
    """Revision r1: 8 quick answers, 2 slow ones, 1 failure; revision r0 only quick ones."""
    made = Store()
    made.watch("default", "moderation", (0.05,))
    good, bad = Outcome("grpc/0", failed=False), Outcome("grpc/13", failed=True)
    for number in range(8):
        made.add(Key("default", "moderation", "r0"), Request(NOW - 50, 0.01, good, bytes([number] * 16)))
        made.add(Key("default", "moderation", "r1"), Request(NOW - 40 + number, 0.02, good, bytes([number] * 16)))
    made.add(Key("default", "moderation", "r1"), Request(NOW - 9.75, 0.2, good, b"a" * 16))
    made.add(Key("default", "moderation", "r1"), Request(NOW - 20.5, 0.051, good, b"b" * 16))
    made.add(Key("default", "moderation", "r1"), Request(NOW - 5.25, 0.001, bad, b"c" * 16))
    key, quick = Key("default", "moderation", "r1"), Stage(NOW - 9, 0.001, 0.015)
    slow = Stage(NOW - 9.8, 0.01, 0.15, pre=0.02, post=0.01, tokens=200, rows=2, node="node-a")
    for stage in (quick, slow):
        made.add_stage(key, stage)
    made.join(key, slow, 0.2, failed=False)
    return made


def test_the_answer_is_the_contract_s(store: Store) -> None:
    query = MultiDict([*WHO, ("latency", "0.05"), ("latency", "0.1"), ("since", str(NOW - 60)), ("until", str(NOW))])
    found = Windows.model_validate_json(api.answer(store, query, NOW).dumps())
    assert (found.namespace, found.deployment, found.since, found.until) == ("default", "moderation", NOW - 60, NOW)
    assert [one.revision for one in found.revisions] == ["r0", "r1"]
    canary = found.revisions[1]
    assert (canary.requests, canary.unavailable, canary.codes) == (11, 1, {"grpc/13": 1})
    assert canary.over == (LatencyCount(threshold=0.05, bad=3), LatencyCount(threshold=0.1, bad=2))
    assert canary.latency.p50 == pytest.approx(0.02, rel=0.01)
    assert canary.latency.p99 == pytest.approx(0.051, rel=0.01)
    stages = canary.stages
    assert (stages.queue, stages.spans, stages.joined) == (0.0055, 2, 1)
    assert stages.compute == pytest.approx(0.0825)
    assert (canary.first_seen, canary.last_seen) == (NOW - 40, NOW - 5.25)
    worst = [(one.trace_id, one.seconds, one.code) for one in canary.exemplars[:3]]
    assert worst == [
        ("63" * 16, 0.001, "grpc/13"),
        ("61" * 16, 0.2, None),
        ("62" * 16, 0.051, None),
    ]


def test_the_slow_requests_say_where_their_time_went(store: Store) -> None:
    query = MultiDict([*WHO, ("latency", "0.05"), ("latency", "0.1")])
    canary = api.answer(store, query, NOW).revisions[1]
    (slow,) = canary.slow
    stages = slow.stages
    assert (slow.threshold, stages.spans, stages.joined, stages.batch, stages.tokens) == (0.05, 1, 1, 2, 200)
    assert (stages.queue, stages.pre, stages.compute, stages.post) == (0.01, 0.02, 0.15, 0.01)
    assert stages.network == pytest.approx(0.01)
    assert canary.lengths == (LengthCount(up_to=256, requests=1, seconds=0.2),)
    assert canary.nodes == (NodeCount(node="node-a", requests=1, failed=0, seconds=0.2),)


def test_quantiles_come_with_the_interval_that_holds_them(store: Store) -> None:
    latency = api.answer(store, MultiDict([*WHO, ("latency", "0.05")]), NOW).revisions[1].latency
    assert latency.p50_interval
    assert latency.p99_interval
    assert latency.p50_interval.low == pytest.approx(0.02, rel=0.021)
    assert latency.p50_interval.high == pytest.approx(0.051, rel=0.021)
    assert latency.p99_interval.high is None


def test_the_first_bad_request_is_over_a_threshold_or_failed(store: Store) -> None:
    def first_bad(*latency: str) -> float | None:
        query = MultiDict([*WHO, *(("latency", one) for one in latency)])
        return api.answer(store, query, NOW).revisions[1].first_bad

    assert first_bad() == NOW - 5.25
    assert first_bad("0.05") == NOW - 20.5
    assert first_bad("0.3") == NOW - 5.25
    assert api.answer(store, MultiDict(WHO), NOW).revisions[0].first_bad is None


def test_the_default_window_is_the_last_hour(store: Store) -> None:
    found = api.answer(store, MultiDict(WHO), NOW)
    assert (found.now, found.since, found.until) == (NOW, NOW - 3600, NOW)


def test_a_caller_whose_clock_is_ahead_is_told_of_nothing_yet(store: Store) -> None:
    found = api.answer(store, MultiDict([*WHO, ("since", str(NOW + 20))]), NOW)
    assert (found.since, found.until, found.revisions) == (NOW + 20, NOW + 20, ())


def test_a_deployment_that_nobody_saw_has_no_revisions(store: Store) -> None:
    found = api.answer(store, MultiDict([("namespace", "x"), ("deployment", "y"), ("latency", "0.1")]), NOW)
    assert found.revisions == ()
    assert store.deployments["x", "y"].thresholds == (0.1,)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ([], "namespace: found ''; write the name"),
        ([("namespace", "a")], "deployment: found ''"),
        ([*WHO, ("since", "yesterday")], "since: found 'yesterday'; write Unix time in seconds"),
        ([*WHO, ("until", "nan")], "until: found 'nan'"),
        ([*WHO, ("since", "-5")], "since: found '-5'"),
        ([*WHO, ("since", "11"), ("until", "10")], "since: found 11.0, which is after until"),
        ([*WHO, ("latency", "50ms")], "latency: found '50ms'; write seconds, as in latency=0.05"),
        ([*WHO, ("latency", "0")], "latency: found '0'"),
        ([*WHO, *[("latency", "1")] * 17], "latency: found 17 of them; ask for at most 16"),
        ([*WHO, ("revision", "r1")], "revision: no such parameter; there are namespace"),
    ],
)
def test_a_question_that_cannot_be_answered_says_what_to_write(query: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(api.QueryError, match=message):
        api.answer(Store(), MultiDict(query), NOW)


def test_metrics_count_every_request_once(store: Store) -> None:
    store.add(Key("default", "moderation", "r1"), Request(NOW, 3.0, judge("404", None, "-", grpc=False), b"d" * 16))
    account = Account()
    account.refused["grpc", "late"] += 2
    registry = metrics.registry(account, store)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    canary = {"namespace": "default", "deployment": "moderation", "revision": "r1"}
    assert value("tapchanger_requests_total", **canary, code="grpc/0") == 10
    assert value("tapchanger_requests_total", **canary, code="grpc/13") == 1
    assert value("tapchanger_requests_total", **canary, code="http/404") == 1
    assert value("tapchanger_request_duration_seconds_bucket", **canary, le="0.05") == 9
    assert value("tapchanger_request_duration_seconds_bucket", **canary, le="0.1") == 10
    assert value("tapchanger_request_duration_seconds_bucket", **canary, le="+Inf") == 12
    assert value("tapchanger_request_duration_seconds_count", **canary) == 12
    assert value("tapchanger_request_duration_seconds_sum", **canary) == pytest.approx(3.412)
    assert value("tapchanger_server_compute_seconds_total", **canary) == pytest.approx(0.165)
    assert value("tapchanger_server_preprocess_seconds_total", **canary) == 0.02
    assert value("tapchanger_server_postprocess_seconds_total", **canary) == 0.01
    assert value("tapchanger_server_requests_total", **canary) == 2
    assert value("tapchanger_observer_spans_refused_total", transport="grpc", reason="late") == 2
    assert value("tapchanger_observer_buckets") == store.bucket_count()


def test_no_metric_carries_a_trace_id(store: Store) -> None:
    names = {
        label for metric in metrics.registry(Account(), store).collect() for s in metric.samples for label in s.labels
    }
    assert names <= {
        "namespace", "deployment", "revision", "code", "le", "transport", "reason", "generation",
        "implementation", "version", "major", "minor", "patchlevel", "threshold",
    }  # fmt: skip


def test_bad_requests_are_counted_by_threshold_since_it_is_watched() -> None:
    store = Store()
    key = Key("team-a", "moderation", "r1")

    def request(seconds: float, *, failed: bool = False) -> Request:
        return Request(NOW, seconds, Outcome("grpc/13" if failed else "grpc/0", failed=failed), b"t")

    store.add(key, request(9.0))
    store.watch("team-a", "moderation", (0.05,))
    for one in (request(0.05), request(0.06), request(0.01, failed=True)):
        store.add(key, one)
    made = metrics.registry(Account(), store)
    labels = {"namespace": "team-a", "deployment": "moderation", "revision": "r1"}
    assert made.get_sample_value("tapchanger_bad_requests_total", {**labels, "threshold": ""}) == 1
    assert made.get_sample_value("tapchanger_bad_requests_total", {**labels, "threshold": "0.05"}) == 2
