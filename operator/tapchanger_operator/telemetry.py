"""The operator's own logs, metrics and traces."""

from __future__ import annotations

import logging
import os
import sys
from typing import Final

from opentelemetry import trace
from prometheus_client import Counter, Gauge, Histogram
from pythonjsonlogger.json import JsonFormatter

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
