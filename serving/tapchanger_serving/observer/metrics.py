"""Prometheus metrics. They are made from the counters when they are scraped, so counting a span costs nothing extra."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tapchanger_serving.observer.ingest import Account
from tapchanger_serving.observer.totals import EDGES, Totals
from tapchanger_serving.observer.windows import Windows

REVISION = ("namespace", "deployment", "revision")


class WindowsCollector(Collector):
    """What users felt, per revision."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "tapchanger_requests",
            "Requests that ended, by outcome, from the router's spans.",
            labels=[*REVISION, "code"],
        )
        bad = CounterMetricFamily(
            "tapchanger_bad_requests",
            "Requests that failed by the server's fault or, with a threshold (seconds), took longer or failed.",
            labels=[*REVISION, "threshold"],
        )
        duration = HistogramMetricFamily(
            "tapchanger_request_duration_seconds", "Time from request to answer, at the router.", labels=REVISION
        )
        parts = {
            name: CounterMetricFamily(f"tapchanger_server_{name}_seconds", text, labels=REVISION)
            for name, text in (
                ("queue", "Time that requests waited for a server, in sum."),
                ("preprocess", "Time that requests spent on tokenizing and padding, in sum."),
                ("compute", "Time that requests spent in the engine, in sum."),
                ("postprocess", "Time that requests spent on turning outputs into answers, in sum."),
            )
        }
        stages = CounterMetricFamily(
            "tapchanger_server_requests", "Requests whose time in the server is known, from its spans.", labels=REVISION
        )
        labels = CounterMetricFamily(
            "tapchanger_labels",
            "Answers whose true label came, by whether they were right.",
            labels=[*REVISION, "right"],
        )
        accuracy = GaugeMetricFamily(
            "tapchanger_accuracy",
            "Share of right ones among the answers that are labelled, over all labels that are kept.",
            labels=REVISION,
        )
        for key, series in self._windows.series():
            totals = series.totals
            right, wrong = series.labels.came
            if right or wrong:
                labels.add_metric([*key, "true"], right)
                labels.add_metric([*key, "false"], wrong)
            labelled, correct = series.labels.totals()
            if labelled:
                accuracy.add_metric(list(key), correct / labelled)
            for code, count in totals.codes.items():
                requests.add_metric([*key, code], count)
            bad.add_metric([*key, ""], totals.failed)
            for threshold, count in totals.over.items():
                bad.add_metric([*key, repr(threshold)], count)
            duration.add_metric(list(key), _cumulated(totals), totals.seconds)
            spent = (totals.queue, totals.pre, totals.compute, totals.post)
            for family, seconds in zip(parts.values(), spent, strict=True):
                family.add_metric(list(key), seconds)
            stages.add_metric(list(key), totals.stages)
        yield from (requests, bad, duration, *parts.values(), stages, labels, accuracy)


def _cumulated(totals: Totals) -> list[tuple[str, float]]:
    buckets = []
    total = 0
    for edge, count in zip([*(repr(edge) for edge in EDGES), "+Inf"], totals.histogram, strict=True):
        total += count
        buckets.append((edge, float(total)))
    return buckets


class AccountCollector(Collector):
    """What became of the spans, and how much is held."""

    def __init__(
        self, account: Account, windows: Windows, waiting: Callable[[], int], refused: Mapping[str, int]
    ) -> None:
        self._refused = refused
        self._waiting = waiting
        self._account = account
        self._windows = windows

    def collect(self) -> Iterator[Metric]:
        account, windows = self._account, self._windows
        received = CounterMetricFamily(
            "tapchanger_observer_spans_received", "Spans in accepted payloads.", labels=["transport"]
        )
        for transport, count in account.received.items():
            received.add_metric([transport], count)
        yield received
        for name, text, counts in (
            ("spans_ignored", "Spans that carry nothing to count.", account.ignored),
            ("spans_refused", "Spans of ours that could not be counted.", account.refused),
            ("payloads_refused", "Payloads that were refused as a whole.", account.payloads_refused),
        ):
            family = CounterMetricFamily(f"tapchanger_observer_{name}", text, labels=["transport", "reason"])
            for (transport, reason), count in counts.items():
                family.add_metric([transport, reason], count)
            yield family
        feedback = CounterMetricFamily(
            "tapchanger_observer_feedback_refused", "Scores and labels that could not be counted.", labels=["reason"]
        )
        for reason, count in self._refused.items():
            feedback.add_metric([reason], count)
        yield feedback
        for name, text, value in (
            ("spans_clamped", "Spans from the future, counted as ending now.", account.clamped),
            ("series_evicted", "Deployments and revisions forgotten because there were too many.", windows.evicted),
            ("minutes_squeezed", "Minutes coarsened or dropped early to bound memory.", windows.squeezed),
        ):
            yield CounterMetricFamily(f"tapchanger_observer_{name}", text, value=value)
        skews = GaugeMetricFamily(
            "tapchanger_observer_clock_skew_seconds",
            "Seconds by which a node's clock is certainly ahead of the routers', or behind (negative).",
            labels=["node"],
        )
        for node, skew in sorted(windows.clocks.skews().items()):
            skews.add_metric([node], skew)
        yield skews
        waiting = GaugeMetricFamily("tapchanger_observer_payloads_waiting", "Payloads that wait to be counted.")
        waiting.add_metric([], self._waiting())
        yield waiting
        yield GaugeMetricFamily("tapchanger_observer_buckets", "Buckets held now.", value=windows.bucket_count())


def registry(
    account: Account,
    windows: Windows,
    waiting: Callable[[], int] = lambda: 0,
    refused: Mapping[str, int] = MappingProxyType({}),
) -> CollectorRegistry:
    """All of the observer's metrics, with those of its own process; `waiting` tells how many payloads wait, `refused` the
    feedback that was not counted, by reason.
    """
    made = CollectorRegistry()
    made.register(WindowsCollector(windows))
    made.register(AccountCollector(account, windows, waiting, refused))
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=made)
    return made
