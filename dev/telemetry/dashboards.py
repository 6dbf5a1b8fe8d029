"""Grafana dashboards: one of a deployment, by the observer's metrics or a Collector's, and one of operator and observer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from dev.telemetry.rules import ROUTER, SPANS, good_selectors

_RATE: Final = "[$__rate_interval]"
_OBSERVED: Final = 'namespace="$namespace",deployment="$deployment"'
_OWNED: Final = 'namespace="$namespace",name="$deployment"'
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}

Json = dict[str, Any]


class Line(NamedTuple):
    """One query of a panel, and how its series are called."""

    query: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """A graph over time; `unit` is Grafana's name of it."""

    title: str
    unit: str
    lines: tuple[Line, ...]
    about: str = ""
    width: int = 12


def files() -> dict[str, str]:
    """The dashboards by the name of their file."""
    return {
        "deployment": _dashboard(
            "tapchanger-deployment", "tapchanger / deployment", _deployment(_observed()), _choices(OBSERVER)
        ),
        "deployment-collector": _dashboard(
            "tapchanger-deployment-collector",
            "tapchanger / deployment (Collector)",
            _deployment(_collected()),
            _choices(COLLECTOR),
        ),
        "health": _dashboard("tapchanger-health", "tapchanger / health", _health(), []),
    }


OBSERVER: Final = ("tapchanger_requests_total", "namespace", "deployment")
COLLECTOR: Final = (f"{SPANS}_count", "tapchanger_namespace", "tapchanger_deployment")


def _observed() -> list[Panel]:
    requests, bad = (
        f"tapchanger_requests_total{{{_OBSERVED}}}{_RATE}",
        f"tapchanger_bad_requests_total{{{_OBSERVED}}}{_RATE}",
    )
    seconds = f"tapchanger_request_duration_seconds_bucket{{{_OBSERVED}}}{_RATE}"
    total = f"sum by (revision) (rate({requests}))"
    return [
        Panel("Requests by revision", "reqps", (Line(total, "{{revision}}"),)),
        Panel("Requests by outcome", "reqps", (Line(f"sum by (code) (rate({requests}))", "{{code}}"),)),
        Panel(
            "Bad requests by revision",
            "percentunit",
            (
                Line(
                    f"sum by (revision, threshold) (rate({bad})) / on (revision) group_left () {total}",
                    "{{revision}} {{threshold}}",
                ),
            ),
            "Without a threshold: failed by the server's fault. With one: failed or took longer than so many seconds.",
        ),
        *(_latency(seconds, "revision")),
    ]


def _collected() -> list[Panel]:
    where = f'tapchanger_namespace="$namespace",tapchanger_deployment="$deployment",{ROUTER}'
    count, bucket = f"{SPANS}_count{{{where}}}{_RATE}", f"{SPANS}_bucket{{{where}}}{_RATE}"
    total = f"sum by (tapchanger_revision) (rate({count}))"
    parts = " or ".join(f"rate({SPANS}_count{{{where},{one}}}{_RATE})" for one in good_selectors())
    good = f"(sum by (tapchanger_revision) ({parts}) or {total} * 0)"
    return [
        Panel("Requests by revision", "reqps", (Line(total, "{{tapchanger_revision}}"),)),
        Panel(
            "Requests by outcome",
            "reqps",
            (
                Line(
                    f"sum by (grpc_status_code, http_status_code, response_flags) (rate({count}))",
                    "grpc {{grpc_status_code}} http {{http_status_code}} {{response_flags}}",
                ),
            ),
        ),
        Panel(
            "Failed requests by revision",
            "percentunit",
            (Line(f"1 - {good} / {total}", "{{tapchanger_revision}}"),),
            "Failed by the server's fault.",
        ),
        *(_latency(bucket, "tapchanger_revision")),
    ]


def _latency(bucket: str, revision: str) -> list[Panel]:
    return [
        Panel(
            f"Latency p{round(q * 100)}",
            "s",
            (Line(f"histogram_quantile({q}, sum by ({revision}, le) (rate({bucket})))", f"{{{{{revision}}}}}"),),
            "From the router's receipt of a request to its answer.",
            8,
        )
        for q in (0.5, 0.9, 0.99)
    ]


def _deployment(counts: Sequence[Panel]) -> list[Panel]:
    served = f"sum by (revision) (rate(tapchanger_server_requests_total{{{_OBSERVED}}}{_RATE}))"

    def part(name: str) -> Line:
        spent = f"sum by (revision) (rate(tapchanger_server_{name}_seconds_total{{{_OBSERVED}}}{_RATE}))"
        return Line(f"{spent} / {served}", f"{name} {{{{revision}}}}")

    return [
        *counts,
        Panel(
            "Weights",
            "percent",
            (
                Line(
                    f"max by (role, revision) (tapchanger_revision_weight_percent{{{_OWNED}}})", "{{role}} {{revision}}"
                ),
            ),
        ),
        Panel(
            "Evidence against the canary",
            "none",
            (Line(f"max by (objective) (tapchanger_verdict_evidence{{{_OWNED}}})", "{{objective}}"),),
            "By objective, on a scale of logarithms: at 1 the canary is rolled back.",
        ),
        Panel("Waiting for a server", "s", (part("queue"),), "Mean of the requests whose server has told."),
        Panel(
            "Work in the server",
            "s",
            (part("preprocess"), part("compute"), part("postprocess")),
            "Means, of the whole batch.",
        ),
        Panel(
            "Drift",
            "none",
            (
                Line(f"max(tapchanger_drift_evidence{{{_OWNED}}})", "evidence"),
                Line(f"max by (feature) (tapchanger_drifted{{{_OWNED}}}) > 0", "{{feature}}"),
            ),
            "At 1 the alarm is given.",
        ),
        Panel(
            "Events",
            "short",
            (
                Line(
                    f'sum by (reason) (increase(tapchanger_events_total{{{_OWNED},kind="TransformerDeployment"}}{_RATE}))',
                    "{{reason}}",
                ),
            ),
        ),
    ]


def _health() -> list[Panel]:
    spans, payloads = "tapchanger_observer_spans", "tapchanger_observer_payloads"
    return [
        Panel(
            "Passes",
            "ops",
            (Line(f"sum by (kind, outcome) (rate(tapchanger_reconcile_total{_RATE}))", "{{kind}} {{outcome}}"),),
        ),
        Panel(
            "Duration of a pass, p99",
            "s",
            (
                Line(
                    f"histogram_quantile(0.99, sum by (kind, le) (rate(tapchanger_reconcile_duration_seconds_bucket{_RATE})))",
                    "{{kind}}",
                ),
            ),
        ),
        Panel("Objects that wait for a pass", "short", (Line("max(tapchanger_workqueue_depth)", "waiting"),)),
        Panel("Replicas that lead", "short", (Line("sum(tapchanger_leader)", "leading"),)),
        Panel(
            "Events",
            "short",
            (Line(f"sum by (kind, reason) (increase(tapchanger_events_total{_RATE}))", "{{kind}} {{reason}}"),),
        ),
        Panel(
            "Conditions that are false",
            "short",
            (Line("count by (type) (max by (namespace, name, type) (tapchanger_condition) == 0)", "{{type}}"),),
        ),
        Panel(
            "Spans received",
            "ops",
            (Line(f"sum by (transport) (rate({spans}_received_total{_RATE}))", "{{transport}}"),),
        ),
        Panel(
            "Spans ignored and refused",
            "ops",
            (
                Line(f"sum by (reason) (rate({spans}_ignored_total{_RATE}))", "ignored: {{reason}}"),
                Line(f"sum by (reason) (rate({spans}_refused_total{_RATE}))", "refused: {{reason}}"),
                Line(f"sum(rate({spans}_clamped_total{_RATE}))", "from the future"),
            ),
        ),
        Panel(
            "Payloads refused",
            "ops",
            (Line(f"sum by (reason) (rate({payloads}_refused_total{_RATE}))", "{{reason}}"),),
        ),
        Panel("Payloads that wait", "short", (Line(f"sum({payloads}_waiting)", "waiting"),)),
        Panel(
            "What the observer holds and forgets",
            "short",
            (
                Line("sum(tapchanger_observer_buckets)", "buckets"),
                Line(f"sum(increase(tapchanger_observer_series_evicted_total{_RATE}))", "evicted"),
                Line(f"sum(increase(tapchanger_observer_minutes_squeezed_total{_RATE}))", "squeezed"),
            ),
        ),
        Panel(
            "Clocks ahead of the routers'",
            "s",
            (Line("max by (node) (tapchanger_observer_clock_skew_seconds)", "{{node}}"),),
        ),
    ]


def _choices(source: tuple[str, str, str]) -> list[Json]:
    metric, namespace, deployment = source

    def choice(name: str, query: str) -> Json:
        return {
            "name": name,
            "type": "query",
            "datasource": _DATASOURCE,
            "refresh": 2,
            "sort": 1,
            "query": {"query": query, "refId": name},
            "definition": query,
        }

    return [
        choice("namespace", f"label_values({metric}, {namespace})"),
        choice("deployment", f'label_values({metric}{{{namespace}="$namespace"}}, {deployment})'),
    ]


def _dashboard(uid: str, title: str, panels: Sequence[Panel], choices: list[Json]) -> str:
    placed, x, y = [], 0, 0
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > 24:
            x, y = 0, y + 8
        placed.append(_panel(number, panel, x, y))
        x += panel.width
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}
    made = {
        "uid": uid,
        "title": title,
        "tags": ["tapchanger"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [source, *choices]},
        "panels": placed,
    }
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def _panel(number: int, panel: Panel, x: int, y: int) -> Json:
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": _DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": 8},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": _DATASOURCE, "expr": line.query, "legendFormat": line.legend}
            for place, line in enumerate(panel.lines)
        ],
    }
