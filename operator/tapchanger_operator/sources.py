"""Where telemetry goes and where the operator asks for it, read from the environment that the chart writes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tapchanger_operator.api.base import seconds

SPAN_METRICS: Final = "traces_span_metrics_duration_seconds"
"""The Collector's span metrics connector names its histogram so, with the unit `s`."""
_METRIC: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True)
class PrometheusSettings:
    """A Prometheus, or what speaks its HTTP API, that holds a Collector's span metrics.

    `credentials`: folder with a file `token`, or `username` and `password`. `ca`: file with the authorities that may sign its
    certificate. `delay`: seconds after the end of a request by which a sample has counted it. `lookback`: seconds before a
    window in which the sample is looked for that it starts from. `matchers`: labels that the series must have besides.
    """

    url: str
    credentials: Path | None = None
    ca: Path | None = None
    timeout: float = 5.0
    delay: float = 15.0
    lookback: float = 300.0
    metric: str = SPAN_METRICS
    matchers: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Telemetry:
    """`prometheus` is None where the observer's counts decide; `spans_host` is empty where spans go to the observer."""

    spans_host: str = ""
    prometheus: PrometheusSettings | None = None


def load(environment: Mapping[str, str]) -> Telemetry:
    """Raises ValueError that names the variable, what was found and what to write."""
    source = environment.get("TAPCHANGER_TELEMETRY_SOURCE") or "Observer"
    spans_host = environment.get("TAPCHANGER_SPANS_HOST", "")
    if source not in ("Observer", "Prometheus"):
        raise ValueError(f"TAPCHANGER_TELEMETRY_SOURCE is {source!r}; write Observer or Prometheus")
    return Telemetry(spans_host, _prometheus(environment) if source == "Prometheus" else None)


def _prometheus(environment: Mapping[str, str]) -> PrometheusSettings:
    url = environment.get("TAPCHANGER_PROMETHEUS_URL", "").rstrip("/")
    if not re.match(r"https?://[^/]", url):
        raise ValueError(f"TAPCHANGER_PROMETHEUS_URL is {url!r}; write its address, such as http://prometheus:9090")
    metric = environment.get("TAPCHANGER_PROMETHEUS_METRIC") or SPAN_METRICS
    if not _METRIC.fullmatch(metric):
        raise ValueError(
            f"TAPCHANGER_PROMETHEUS_METRIC is {metric!r}; write a histogram's name, such as {SPAN_METRICS}"
        )
    credentials, ca = environment.get("TAPCHANGER_PROMETHEUS_CREDENTIALS"), environment.get("TAPCHANGER_PROMETHEUS_CA")
    return PrometheusSettings(
        url=url,
        credentials=Path(credentials) if credentials else None,
        ca=Path(ca) if ca else None,
        timeout=_length(environment, "TAPCHANGER_PROMETHEUS_TIMEOUT", "5s"),
        delay=_length(environment, "TAPCHANGER_PROMETHEUS_DELAY", "15s"),
        lookback=_length(environment, "TAPCHANGER_PROMETHEUS_LOOKBACK", "5m"),
        metric=metric,
        matchers=_texts(environment, "TAPCHANGER_PROMETHEUS_MATCHERS", names=_LABEL),
        headers=_texts(environment, "TAPCHANGER_PROMETHEUS_HEADERS"),
    )


def _length(environment: Mapping[str, str], name: str, default: str) -> float:
    text = environment.get(name) or default
    try:
        length = seconds(text)
    except ValueError as problem:
        raise ValueError(f"{name}: {problem}") from None
    if length <= 0:
        raise ValueError(f"{name} is {text!r}; write a time above zero, such as {default}")
    return length


Texts = Mapping[str, str]


def _texts(environment: Mapping[str, str], name: str, names: re.Pattern[str] | None = None) -> Texts:
    text = environment.get(name) or "{}"
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError(f'{name} is {text!r}; write a JSON object of texts, such as {{"cluster": "a"}}')
    for key in found:
        if names and not names.fullmatch(key):
            raise ValueError(f"{name}: {key!r} is no label's name; write letters, digits and _")
    return found
