"""The operator's own logs, metrics and traces."""

from __future__ import annotations

import logging
import math
import os
import sys
from contextlib import suppress
from typing import Final

from opentelemetry import trace
from prometheus_client import Counter, Gauge, Histogram
from pythonjsonlogger.json import JsonFormatter

from tapchanger_operator.api.drift import DriftStatus
from tapchanger_operator.api.retraining import RetrainingStatus
from tapchanger_serving.contract.drift import FEATURES

PASSES: Final = Counter("tapchanger_reconcile_total", "Passes over objects by outcome.", ["kind", "outcome"])
PASS_SECONDS: Final = Histogram(
    "tapchanger_reconcile_duration_seconds",
    "Duration of one pass.",
    ["kind"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
QUEUE_DEPTH: Final = Gauge("tapchanger_workqueue_depth", "Objects that wait for a pass.")
LEADING: Final = Gauge("tapchanger_leader", "1 where this replica holds the Lease.")
EVENTS: Final = Counter("tapchanger_events_total", "What happened to objects.", ["kind", "namespace", "name", "reason"])

DRIFTED: Final = Gauge(
    "tapchanger_drifted",
    "1 where a feature of the traffic moved away from the reference.",
    ["namespace", "name", "feature"],
)
DRIFT_EVIDENCE: Final = Gauge(
    "tapchanger_drift_evidence",
    "Evidence of drift, 1 where it alarms, on a scale of logarithms.",
    ["namespace", "name"],
)

RETRAINING_RUNS: Final = Counter(
    "tapchanger_retraining_runs_total",
    "Retraining runs by how they ended.",
    ["namespace", "name", "trigger", "outcome"],
)
RETRAINING: Final = Gauge(
    "tapchanger_retraining", "1 while a retraining run or its content is under way.", ["namespace", "name"]
)

TRACER: Final = trace.get_tracer("tapchanger.operator")


def configure_logging(level: str = "INFO") -> None:
    """One JSON object a line on standard output, also for the libraries' messages."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        JsonFormatter(
            "{asctime}{levelname}{name}{message}",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger", "message": "msg"},
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("kopf", "leaderelection", "httpx", "httpcore", "urllib3", "kubernetes", "aiohttp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def configure_tracing() -> None:
    """Spans of the operator's passes go to OTEL_EXPORTER_OTLP_ENDPOINT where that is set, and nowhere otherwise."""
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "tapchanger-operator"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def tell_drift(namespace: str, name: str, record: DriftStatus | None) -> None:
    """Sets a deployment's gauges of drift; without a record they go."""
    if record is None or record.threshold <= 1.0:
        for gauge, rest in ((DRIFT_EVIDENCE, ((),)), (DRIFTED, tuple((feature,) for feature in FEATURES))):
            for labels in rest:
                with suppress(KeyError):
                    gauge.remove(namespace, name, *labels)
        return
    evidence = math.log(max(record.evidence, 1.0)) / math.log(record.threshold)
    DRIFT_EVIDENCE.labels(namespace, name).set(evidence)
    for feature in FEATURES:
        DRIFTED.labels(namespace, name, feature).set(float(record.verdict == feature))


def tell_retraining(namespace: str, name: str, before: RetrainingStatus | None, after: RetrainingStatus | None) -> None:
    """Counts the runs that ended in a pass, and sets whether one is under way; without a status the gauge goes."""
    if after is None:
        with suppress(KeyError):
            RETRAINING.remove(namespace, name)
        return
    RETRAINING.labels(namespace, name).set(float(after.run is not None))
    known = {run.name for run in before.runs} if before else set()
    for run in after.runs:
        if run.name not in known:
            RETRAINING_RUNS.labels(namespace, name, run.trigger, run.outcome or "").inc()
