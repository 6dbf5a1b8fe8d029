"""The alert rules and the dashboards' queries, by the real promtool: they parse, and each alert rises and rests as it should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.telemetry import dashboards, rules
from tests.support.telemetry import promtool

DEPLOYMENT = 'namespace="team-a",deployment="moderation",revision="r1"'
OBJECT = 'namespace="team-a",name="moderation"'
ROUTER = 'tapchanger_component="router",tapchanger_namespace="team-a",tapchanger_deployment="moderation",tapchanger_revision="r1"'
TARGETS = {
    f'tapchanger_objective_target{{{OBJECT},threshold=""}}': "0.99+0x600",
    f'tapchanger_objective_target{{{OBJECT},threshold="0.05"}}': "0.9+0x600",
}


def observed(bad: str, late: str) -> dict[str, str]:
    """Ten requests a second, of which each minute so many more fail, or are late or fail."""
    return TARGETS | {
        f'tapchanger_requests_total{{{DEPLOYMENT},code="grpc/0"}}': "0+600x600",
        f'tapchanger_bad_requests_total{{{DEPLOYMENT},threshold=""}}': bad,
        f'tapchanger_bad_requests_total{{{DEPLOYMENT},threshold="0.05"}}': late,
    }


def collected(good: int, failed: int, fast: int) -> dict[str, str]:
    """A minute's good and failed requests, and how many of the good ones were fast."""
    found = dict(TARGETS)
    for status, requests, quick in (("0", good, fast), ("14", failed, failed)):
        labels = (
            f'{ROUTER},grpc_status_code="{status}",http_status_code="200",response_flags="-",tapchanger_grpc="true"'
        )
        for le, count in (("0.05", quick), ("+Inf", requests)):
            if requests:
                found[f'{rules.SPANS}_bucket{{{labels},le="{le}"}}'] = f"0+{count}x600"
    return found


def event(kind: str, reason: str) -> str:
    return f'tapchanger_events_total{{kind="{kind}",{OBJECT},reason="{reason}",instance="a"}}'


WELL: dict[str, str] = {
    **observed("0+3x600", "0+30x600"),
    "tapchanger_observer_buckets": "100x600",
    'tapchanger_leader{instance="a"}': "1x600",
    'tapchanger_leader{instance="b"}': "0x600",
    'tapchanger_reconcile_total{kind="TransformerDeployment",outcome="done"}': "0+10x600",
    'tapchanger_reconcile_total{kind="TransformerDeployment",outcome="failed"}': "0+1x600",
    f'tapchanger_drifted{{{OBJECT},feature="tokens"}}': "0x600",
    'tapchanger_observer_payloads_refused_total{reason="overloaded"}': "5x600",
    'tapchanger_observer_spans_refused_total{reason="late"}': "5x600",
    "tapchanger_observer_series_evicted_total": "0x600",
    "tapchanger_observer_minutes_squeezed_total": "0x600",
    event("TransformerDeployment", "Promoted"): "_x300 1x300",
    'up{job="tapchanger-collector",instance="c"}': "1x600",
}
"""A system in which nothing is wrong."""

WRONG: dict[str, tuple[dict[str, str | None], str]] = {
    "TapchangerErrorBudgetBurnsFast": (observed("0+180x600", "0+180x600"), "2h"),
    "TapchangerErrorBudgetBurnsSlowly": (observed("0+40x600", "0+40x600"), "7h"),
    "TapchangerCanaryRolledBack": ({event("TransformerDeployment", "RolledBack"): "_x300 1x300"}, "5h10m"),
    "TapchangerDrift": ({f'tapchanger_drifted{{{OBJECT},feature="tokens"}}': "0x300 1x300"}, "5h20m"),
    "TapchangerBuildFailed": ({event("EngineBuild", "BuildFailed"): "1x300 2x300"}, "5h10m"),
    "TapchangerObserverMissing": ({"tapchanger_observer_buckets": "100x300 stale"}, "6h"),
    "TapchangerObserverOverloaded": (
        {'tapchanger_observer_payloads_refused_total{reason="overloaded"}': "0+3x600"}, "2h",
    ),
    "TapchangerObserverRefuses": ({'tapchanger_observer_spans_refused_total{reason="late"}': "0+3x600"}, "2h"),
    "TapchangerObserverForgets": ({"tapchanger_observer_series_evicted_total": "0+1x600"}, "2h"),
    "TapchangerOperatorMissing": ({'tapchanger_leader{instance="a"}': "1x300 0x300"}, "6h"),
    "TapchangerPassesStopped": (
        {
            'tapchanger_reconcile_total{kind="TransformerDeployment",outcome="done"}': "10x600",
            'tapchanger_reconcile_total{kind="TransformerDeployment",outcome="failed"}': "1x600",
        },
        "2h",
    ),
    "TapchangerPassesFail": (
        {'tapchanger_reconcile_total{kind="TransformerDeployment",outcome="failed"}': "0+30x600"}, "2h",
    ),
    "TapchangerCollectorMissing": ({'up{job="tapchanger-collector",instance="c"}': "1x300 0x300"}, "5h10m"),
}  # fmt: skip
"""By alert, what is different, and when the alert is up."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("rules")
    for name, text in rules.files().items():
        (found / f"{name}.yaml").write_text(text)
    return found


def alerts(folder: Path) -> set[str]:
    return {
        rule["alert"]
        for path in folder.glob("*.yaml")
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }


def test_the_rules_are_valid(folder: Path) -> None:
    done = promtool("check", "rules", *(folder / f"{name}.yaml" for name in rules.files()))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_query_of_the_dashboards_parses(tmp_path: Path) -> None:
    queries = [
        target["expr"]
        .replace("$__rate_interval", "5m")
        .replace("$namespace", "team-a")
        .replace("$deployment", "moderation")
        for text in dashboards.files().values()
        for panel in json.loads(text)["panels"]
        for target in panel["targets"]
    ]
    assert len(queries) > 40
    made = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": made}]}))
    done = promtool("check", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def case(series: dict[str, Any], checks: list[tuple[str, str, bool]]) -> dict[str, Any]:
    """One world of promtool's: series, and for each alert and time whether it is up."""
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items() if values],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)',
                "eval_time": at,
                "exp_samples": [{"labels": "{}", "value": 1 if up else 0}],
            }
            for alert, at, up in checks
        ],
    }


def checked(folder: Path, name: str, counts: str, tests: list[dict[str, Any]]) -> None:
    files = [f"{counts}.yaml", "alerts.yaml"]
    file = folder / f"{name}.test.yml"
    file.write_text(yaml.safe_dump({"rule_files": files, "evaluation_interval": "1m", "tests": tests}, width=10_000))
    done = promtool("test", "rules", file.name, cwd=folder)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def test_nothing_is_told_of_a_system_that_is_well(folder: Path) -> None:
    assert alerts(folder) == WRONG.keys()
    checks = [(alert, at, False) for alert in WRONG for at in ("2h", "5h10m", "9h")]
    checked(folder, "well", "observer", [case(WELL, checks)])


@pytest.mark.parametrize("alert", WRONG)
def test_each_alert_is_up_when_it_should_be(folder: Path, alert: str) -> None:
    different, at = WRONG[alert]
    counts = "collector" if alert == "TapchangerCollectorMissing" else "observer"
    others = [other for other in WRONG if other != alert and not (alert + other).count("BudgetBurns") > 1]
    quiet = [(other, at, False) for other in others if counts == "observer"]
    checked(folder, alert, counts, [case({**WELL, **different}, [(alert, at, True), *quiet])])


@pytest.mark.parametrize(
    ("series", "fast"),
    [
        (collected(597, 3, 570), False),
        (collected(420, 180, 400), True),
        (collected(0, 600, 0), True),
    ],
    ids=["well", "failing", "nothing but failures"],
)
def test_a_collectors_counts_raise_the_same_alert(folder: Path, series: dict[str, str], fast: bool) -> None:
    found = case(series, [("TapchangerErrorBudgetBurnsFast", "2h", fast)])
    if fast and len(series) > 4:
        found["promql_expr_test"][0]["exp_samples"][0]["value"] = 1
    checked(folder, f"collector-{fast}-{len(series)}", "collector", [found])


def test_a_late_request_counts_against_its_threshold_only(folder: Path) -> None:
    world = case(collected(600, 0, 300), [])
    labels = '{namespace="team-a", deployment="moderation", threshold="0.05"}'
    late = {"labels": f"tapchanger:bad_requests:ratio5m{labels}", "value": 0.5}
    none = {"labels": 'tapchanger:bad_requests:ratio5m{namespace="team-a", deployment="moderation"}', "value": 0.0}
    world["promql_expr_test"] = [
        {"expr": "tapchanger:bad_requests:ratio5m", "eval_time": "2h", "exp_samples": [late, none]}
    ]
    checked(folder, "late", "collector", [world])
