from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from tapchanger_serving.contract.outcome import Outcome
from tapchanger_serving.observer.breakdown import Stage
from tapchanger_serving.observer.bucket import EXEMPLARS, Bucket, Request
from tapchanger_serving.observer.windows import COARSE, MINUTE, Key, Limits, Windows

START = 1_700_000_040
"""A multiple of 60, so that a test can say where minutes begin."""
KEY = Key("default", "moderation", "r1")
OK = Outcome("grpc/0", failed=False)
BROKEN = Outcome("grpc/13", failed=True)
THRESHOLDS = (0.05, 0.2)

REQUESTS = st.lists(
    st.builds(
        Request,
        end=st.integers(min_value=0, max_value=400_000).map(lambda milli: START + milli / 1000),
        seconds=st.floats(min_value=1e-5, max_value=60, allow_nan=False),
        outcome=st.sampled_from([OK, OK, OK, BROKEN, Outcome("http/503", failed=True)]),
        trace_id=st.binary(min_size=16, max_size=16),
    ),
    max_size=60,
)


def filled(requests: list[Request], limits: Limits | None = None) -> Windows:
    windows = Windows(limits)
    windows.watch(KEY.namespace, KEY.deployment, THRESHOLDS)
    for request in requests:
        windows.add(KEY, request)
    return windows


def everything(windows: Windows) -> Bucket:
    return windows.window(KEY.namespace, KEY.deployment, 0, START + 10_000).get(
        KEY.revision, Bucket.watching(THRESHOLDS)
    )


def counts(bucket: Bucket) -> tuple[object, ...]:
    """All of a bucket but its exemplars, of which buckets of different ages keep different numbers."""
    facts = (bucket.requests, bucket.unavailable, bucket.good, bucket.failed, bucket.codes, bucket.over)
    return (*facts, bucket.first, bucket.last, bucket.first_failed)


def in_one(requests: list[Request]) -> Bucket:
    bucket = Bucket.watching(THRESHOLDS)
    for request in requests:
        bucket.add(request)
    return bucket


@given(REQUESTS)
def test_merged_buckets_equal_counting_all_in_one(requests: list[Request]) -> None:
    assert counts(everything(filled(requests))) == counts(in_one(requests))


@given(REQUESTS, st.randoms())
def test_the_order_of_arrival_does_not_matter(requests: list[Request], chance: random.Random) -> None:
    shuffled = list(requests)
    chance.shuffle(shuffled)
    assert everything(filled(shuffled)) == everything(filled(requests))


@given(REQUESTS)
def test_a_query_in_between_changes_nothing(requests: list[Request]) -> None:
    windows = filled(requests[: len(requests) // 2])
    everything(windows)
    for request in requests[len(requests) // 2 :]:
        windows.add(KEY, request)
    assert everything(windows) == everything(filled(requests))


@given(REQUESTS)
def test_coarsening_keeps_every_count(requests: list[Request]) -> None:
    windows = filled(requests)
    windows.tidy(START + Limits().fine_seconds + 1_000)
    steps = {minute.step for _, series in windows.series() for minute in series.minutes.values()}
    assert steps <= {COARSE}
    assert counts(everything(windows)) == counts(in_one(requests))


@given(REQUESTS)
def test_watched_thresholds_are_counted_exactly(requests: list[Request]) -> None:
    found = everything(filled(requests))
    for threshold in THRESHOLDS:
        over = [one for one in requests if one.seconds > threshold and not one.outcome.failed]
        assert found.over_threshold(threshold) == (len(over), min((one.end for one in over), default=None))


@given(REQUESTS)
def test_other_thresholds_come_from_the_sketch_within_one_percent(requests: list[Request]) -> None:
    good = [one.seconds for one in requests if not one.outcome.failed]
    found = everything(filled(requests)).over_threshold(0.1)
    assert sum(one > 0.1011 for one in good) <= found.number <= sum(one > 0.0989 for one in good)
    assert (found.first is None) == (found.number == 0)


@given(REQUESTS)
def test_the_worst_exemplar_is_the_worst_request(requests: list[Request]) -> None:
    kept = everything(filled(requests)).worst
    assert len(kept) <= EXEMPLARS
    failures = sorted((one.seconds for one in requests if one.outcome.failed), reverse=True)
    assert [one.seconds for one in kept if one.failed] == failures[:EXEMPLARS]
    assert list(kept) == sorted(kept, reverse=True)
    if requests:
        failed, seconds = max((one.outcome.failed, one.seconds) for one in requests)
        assert (kept[0].failed, kept[0].seconds) == (failed, seconds)


def at(offset: float, seconds: float = 0.01, outcome: Outcome = OK) -> Request:
    return Request(START + offset, seconds, outcome, b"t" * 16)


def asked(windows: Windows, since: float, until: float) -> int:
    found = windows.window(KEY.namespace, KEY.deployment, START + since, START + until)
    return found[KEY.revision].requests if found else 0


def test_a_window_is_rounded_outwards_to_whole_seconds() -> None:
    windows = filled([at(0.5), at(1.5), at(2.5), at(61.5), at(130)])
    assert asked(windows, 1.9, 2.1) == 2
    assert asked(windows, 1, 2) == 1
    assert asked(windows, 0, 120) == 4
    assert asked(windows, 200, 300) == 0


def test_a_threshold_is_exact_from_the_next_second_on() -> None:
    windows = Windows()
    windows.add(KEY, at(0, seconds=0.0999))
    windows.watch(KEY.namespace, KEY.deployment, (0.1,))
    windows.add(KEY, at(0.5, seconds=0.0999))
    windows.add(KEY, at(1, seconds=0.0999))
    windows.add(KEY, at(1, seconds=0.1001))
    found = windows.window(KEY.namespace, KEY.deployment, START + 1, START + 2)[KEY.revision]
    assert found.over_threshold(0.1).number == 1


def test_old_minutes_are_dropped() -> None:
    windows = filled([at(0), at(61)])
    windows.tidy(START + MINUTE + windows.limits.keep_seconds)
    assert asked(windows, 0, 1_000) == 1


def test_too_many_buckets_cost_resolution_before_they_cost_counts() -> None:
    windows = filled([at(second) for second in range(240)], Limits(max_buckets=100))
    windows.tidy(START + 240)
    assert windows.bucket_count() <= 100
    assert asked(windows, 0, 300) == 240
    assert windows.squeezed > 0


def test_far_too_many_buckets_cost_the_oldest_minutes() -> None:
    windows = filled([at(second) for second in range(240)], Limits(max_buckets=10))
    windows.tidy(START + 240)
    assert windows.bucket_count() <= 10
    assert asked(windows, 180, 240) == 60
    assert asked(windows, 0, 60) == 0


def test_the_deployments_and_revisions_used_least_recently_make_room() -> None:
    windows = Windows(Limits(max_deployments=2, max_revisions=2))
    for revision in ("r1", "r2", "r1", "r3"):
        windows.add(Key("a", "one", revision), at(0))
    for deployment in ("two", "one", "three"):
        windows.add(Key("a", deployment, "r1"), at(0))
    assert [key for key, _ in windows.series()] == [
        ("a", "one", "r3"),
        ("a", "one", "r1"),
        ("a", "three", "r1"),
    ]
    assert windows.evicted == 2


def test_thresholds_are_bounded_and_the_latest_stay() -> None:
    windows = Windows(Limits(max_thresholds=2))
    for threshold in (0.1, 0.2, 0.3):
        windows.watch("a", "one", (threshold,))
    assert windows.deployments["a", "one"].thresholds == (0.3, 0.2)


def test_stages_are_summed_where_no_request_was_seen() -> None:
    windows = Windows()
    windows.add_stage(KEY, Stage(START, 0.01, 0.03))
    windows.add_stage(KEY, Stage(START + 70, 0.03, 0.05))
    found = windows.window(KEY.namespace, KEY.deployment, START, START + 100)[KEY.revision]
    assert found.parts
    sums = found.parts.every
    assert (found.requests, sums.spans) == (0, 2)
    assert (round(sums.queue, 9), round(sums.compute, 9)) == (0.04, 0.08)
