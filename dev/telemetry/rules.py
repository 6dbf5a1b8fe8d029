"""Alert rules for Prometheus, and the recording rules under them: from the observer's metrics or a Collector's span metrics.

Whether a request failed is said in :mod:`tapchanger_serving.contract.outcome`; the selectors here are made from its sets. The
burn rates and windows are those of the SRE Workbook, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts".
"""

from __future__ import annotations

from typing import Any, Final

import yaml

from tapchanger_serving.contract.outcome import BAD_GRPC, BROKEN_FLAGS, CLIENT_FLAGS

WINDOWS: Final = ("5m", "30m", "1h", "6h")
SPANS: Final = "traces_span_metrics_duration_seconds"
ROUTER: Final = 'tapchanger_component="router",tapchanger_revision!="",span_kind!="SPAN_KIND_CLIENT"'
_HEADER: Final = "# Made by `make generate`; change dev/telemetry/rules.py instead.\n"
_BURN: Final = (
    "{{ $labels.namespace }}/{{ $labels.deployment }} spends its error budget"
    "{{ with $labels.threshold }} of {{ . }} s{{ end }}"
)
_WHERE: Final = "{{ $labels.namespace }}/{{ $labels.name }}"

Rule = dict[str, Any]


def files() -> dict[str, str]:
    """The files by name: `observer` or `collector`, whichever counts, and `alerts` for both."""
    return {
        "observer": _text([{"name": "tapchanger-observer-counts", "rules": [*_observer_counts(), *_ratios()]}]),
        "collector": _text(
            [
                {"name": "tapchanger-collector-counts", "rules": [*_collector_counts(), *_ratios()]},
                {"name": "tapchanger-collector", "rules": [_collector_missing()]},
            ]
        ),
        "alerts": _text(
            [
                {"name": "tapchanger-objectives", "rules": _objectives()},
                {"name": "tapchanger-rollouts", "rules": _rollouts()},
                {"name": "tapchanger-observer", "rules": _observer()},
                {"name": "tapchanger-operator", "rules": _operator()},
            ]
        ),
    }


def _observer_counts() -> list[Rule]:
    found = []
    for window in WINDOWS:
        requests = f"sum by (namespace, deployment) (rate(tapchanger_requests_total[{window}]))"
        bad = f"sum by (namespace, deployment, threshold) (rate(tapchanger_bad_requests_total[{window}]))"
        found += [
            _record(f"tapchanger:requests:rate{window}", requests),
            _record(f"tapchanger:bad_requests:rate{window}", bad),
        ]
    return found


def good_selectors() -> tuple[str, ...]:
    """Labels of the span metrics of requests that did not fail; no series fits two of them."""
    client = f'response_flags=~"{_among(CLIENT_FLAGS)}"'
    other = f'response_flags!~"{_among(CLIENT_FLAGS)}"'
    whole = f'{other},response_flags!~"{_among(BROKEN_FLAGS)}"'
    bad = "|".join(str(status) for status in sorted(BAD_GRPC))
    return (
        client,
        f'{other},grpc_status_code!~"|{bad}"',
        f'{whole},grpc_status_code="",tapchanger_grpc!="true",http_status_code!~"5..|0"',
        f'{whole},grpc_status_code="",tapchanger_grpc="true",http_status_code!~"5..|0|2.."',
    )


def _among(flags: frozenset[str]) -> str:
    return f"(.*,)?({'|'.join(sorted(flags))})(,.*)?"


def _collector_counts() -> list[Rule]:
    """Bad requests are all but the good ones up to a bucket's edge; up to infinity those are the ones that did not fail."""
    found = []
    for window in WINDOWS:
        all_of = (
            f"sum by (tapchanger_namespace, tapchanger_deployment, le) (rate({SPANS}_bucket{{{ROUTER}}}[{window}]))"
        )
        parts = " or ".join(f"rate({SPANS}_bucket{{{ROUTER},{one}}}[{window}])" for one in good_selectors())
        good = f"sum by (tapchanger_namespace, tapchanger_deployment, le) ({parts})"
        total = f'sum by (tapchanger_namespace, tapchanger_deployment) (rate({SPANS}_bucket{{{ROUTER},le="+Inf"}}[{window}]))'
        bad = f"{total} - on (tapchanger_namespace, tapchanger_deployment) group_right () ({good} or {all_of} * 0)"
        found += [
            _record(f"tapchanger:requests:rate{window}", f"sum by (namespace, deployment) ({_renamed(total)})"),
            _record(
                f"tapchanger:bad_requests:rate{window}",
                f"sum by (namespace, deployment, threshold) ({_renamed(_label(bad, 'threshold', 'le', '([0-9].*)'))})",
            ),
        ]
    return found


def _renamed(expression: str) -> str:
    named = _label(expression, "namespace", "tapchanger_namespace", "(.*)")
    return _label(named, "deployment", "tapchanger_deployment", "(.*)")


def _label(expression: str, label: str, source: str, pattern: str) -> str:
    return f'label_replace({expression}, "{label}", "$1", "{source}", "{pattern}")'


def _ratios() -> list[Rule]:
    """The share of bad requests by deployment and threshold, and what each objective allows."""
    ratios = [
        _record(
            f"tapchanger:bad_requests:ratio{window}",
            f"tapchanger:bad_requests:rate{window} / on (namespace, deployment) group_left ()"
            f" (tapchanger:requests:rate{window} > 0)",
        )
        for window in WINDOWS
    ]
    budget = _label(
        "1 - max by (namespace, name, threshold) (tapchanger_objective_target)", "deployment", "name", "(.*)"
    )
    return [*ratios, _record("tapchanger:objective_budget", f"max by (namespace, deployment, threshold) ({budget})")]


def _objectives() -> list[Rule]:
    def burning(times: float, long: str, short: str) -> str:
        parts = (
            f"tapchanger:bad_requests:ratio{window} > on (namespace, deployment, threshold)"
            f" ({times} * tapchanger:objective_budget)"
            for window in (long, short)
        )
        return " and ".join(f"({part})" for part in parts)

    return [
        _alert(
            "TapchangerErrorBudgetBurnsFast",
            burning(14.4, "1h", "5m"),
            "2m",
            "critical",
            f"{_BURN} 14 times as fast as it may",
            "{{ $value | humanizePercentage }} of the requests of the last hour were bad.",
        ),
        _alert(
            "TapchangerErrorBudgetBurnsSlowly",
            burning(6, "6h", "30m"),
            "15m",
            "warning",
            f"{_BURN} 6 times as fast as it may",
            "{{ $value | humanizePercentage }} of the requests of six hours were bad.",
        ),
    ]


def _rollouts() -> list[Rule]:
    return [
        _alert(
            "TapchangerCanaryRolledBack",
            _happened('kind="TransformerDeployment",reason="RolledBack"'),
            None,
            "warning",
            f"A canary of {_WHERE} was rolled back",
            "It broke an objective, or was taken back. The same content is not tried again.",
        ),
        _alert(
            "TapchangerDrift",
            "max by (namespace, name, feature) (tapchanger_drifted) == 1",
            "10m",
            "warning",
            f"The texts of {_WHERE} have drifted: {{{{ $labels.feature }}}}",
            "They differ from what the model was built for.",
        ),
        _alert(
            "TapchangerBuildFailed",
            _happened('kind="EngineBuild",reason="BuildFailed"'),
            None,
            "warning",
            f"Build {_WHERE} failed",
            "The deployments that wait for its engine go on with the one they have.",
        ),
    ]


def _happened(selector: str) -> str:
    """What was counted within a quarter of an hour, also by a counter that did not exist before, which has no increase."""
    series = f"tapchanger_events_total{{{selector}}}"
    return f"sum by (namespace, name) (increase({series}[15m]) > 0 or ({series} unless {series} offset 15m))"


def _observer() -> list[Rule]:
    refused = "tapchanger_observer_payloads_refused_total"
    return [
        _alert(
            "TapchangerObserverMissing",
            "absent(tapchanger_observer_buckets)",
            "5m",
            "critical",
            "No observer tells its metrics",
            "Verdicts on canaries wait, and nobody sees what users feel. Requests are served.",
        ),
        _alert(
            "TapchangerObserverOverloaded",
            f'sum(rate({refused}{{reason=~"overloaded|too_slow"}}[5m])) > 0',
            "5m",
            "warning",
            "The observer turns spans away because too many come",
            "Verdicts have less evidence than there is.",
        ),
        _alert(
            "TapchangerObserverRefuses",
            f'sum by (reason) (rate({refused}{{reason!~"overloaded|too_slow"}}[5m])'
            " or rate(tapchanger_observer_spans_refused_total[5m])) > 0",
            "10m",
            "warning",
            "The observer refuses spans: {{ $labels.reason }}",
            "Somebody sends what it can't count, or may not tell.",
        ),
        _alert(
            "TapchangerObserverForgets",
            "sum(increase(tapchanger_observer_series_evicted_total[1h]))"
            " + sum(increase(tapchanger_observer_minutes_squeezed_total[1h])) > 0",
            None,
            "warning",
            "The observer forgets before its time",
            "There is more than it may hold.",
        ),
    ]


def _operator() -> list[Rule]:
    failing = 'sum by (kind) (rate(tapchanger_reconcile_total{outcome!="done"}[10m]))'
    return [
        _alert(
            "TapchangerOperatorMissing",
            "absent(max(tapchanger_leader) == 1)",
            "2m",
            "critical",
            "No operator has the Lease",
            "Models are served, but nothing changes: no rollout, no rollback.",
        ),
        _alert(
            "TapchangerPassesStopped",
            "sum(rate(tapchanger_reconcile_total[5m])) == 0 and on () count(tapchanger_objective_target) > 0",
            "5m",
            "critical",
            "The operator looks at no deployment",
            "It leads, but its workers do nothing.",
        ),
        _alert(
            "TapchangerPassesFail",
            f"{failing} / sum by (kind) (rate(tapchanger_reconcile_total[10m])) > 0.5",
            "15m",
            "warning",
            "Most passes over a {{ $labels.kind }} fail",
            "The operator's log names the object and the error.",
        ),
    ]


def _collector_missing() -> Rule:
    return _alert(
        "TapchangerCollectorMissing",
        'up{job=~"(.*/)?tapchanger-collector"} == 0',
        "1m",
        "critical",
        "A Collector can't be scraped: {{ $labels.instance }}",
        "Verdicts wait, since the requests that it counted are missing.",
    )


def _record(name: str, expression: str) -> Rule:
    return {"record": name, "expr": expression}


def _alert(name: str, expression: str, lasting: str | None, severity: str, summary: str, description: str) -> Rule:
    return {
        "alert": name,
        "expr": expression,
        **({"for": lasting} if lasting else {}),
        "labels": {"severity": severity},
        "annotations": {
            "summary": summary,
            "description": description,
            "runbook": f"docs/alerts.md#{name.lower()}",
        },
    }


def _text(groups: list[Rule]) -> str:
    return _HEADER + yaml.safe_dump({"groups": groups}, sort_keys=False, width=10_000)
