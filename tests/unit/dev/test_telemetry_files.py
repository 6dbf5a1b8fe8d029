"""Dashboards and alerts name only metrics that the programs really export, and every alert is explained."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client import REGISTRY, CollectorRegistry

from dev.telemetry import dashboards, rules
from dev.telemetry.__main__ import wanted
from tapchanger_operator import gauges, telemetry
from tapchanger_operator.api import reasons
from tapchanger_operator.api.spec import TransformerDeploymentSpec
from tapchanger_operator.api.status import TransformerDeploymentStatus
from tapchanger_serving.contract import outcome
from tapchanger_serving.observer.ingest import Account
from tapchanger_serving.observer.metrics import registry
from tapchanger_serving.observer.windows import Windows
from tests.support.samples import MODEL

ROOT = Path(__file__).parents[3]
SPAN_METRICS = {f"{rules.SPANS}{suffix}" for suffix in ("_bucket", "_count", "_sum")}
LABELS = {
    "tapchanger_namespace", "tapchanger_deployment", "tapchanger_revision", "tapchanger_component", "tapchanger_grpc",
}  # fmt: skip


def exported() -> set[str]:
    """Names of all series of the operator's and the observer's registries, and of the Collector's connector."""
    assert telemetry.PASSES
    assert gauges.TOLD
    made: list[CollectorRegistry] = [REGISTRY, registry(Account(), Windows())]
    found = {"up", *SPAN_METRICS}
    for one in made:
        for family in one.collect():
            endings = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
            found |= {family.name + ending for ending in endings}
    return found


def expressions() -> Iterator[tuple[str, str]]:
    for name, text in rules.files().items():
        for group in yaml.safe_load(text)["groups"]:
            for rule in group["rules"]:
                yield f"{name}/{rule.get('alert') or rule['record']}", rule["expr"]
    for name, text in dashboards.files().items():
        for panel in json.loads(text)["panels"]:
            for target in panel["targets"]:
                yield f"{name}/{panel['title']}", target["expr"]


def recorded(text: str) -> set[str]:
    return {rule["record"] for group in yaml.safe_load(text)["groups"] for rule in group["rules"] if "record" in rule}


@pytest.mark.parametrize(("where", "expression"), list(expressions()), ids=lambda value: value[:40])
def test_every_metric_is_exported_or_recorded(where: str, expression: str) -> None:
    bare = re.sub(r'"[^"]*"', "", expression)
    named = set(re.findall(r"\b(?:tapchanger|traces)[a-z0-9_:]*", bare)) - LABELS
    assert named or "up{" in bare
    plain = {name for name in named if ":" not in name}
    assert plain <= exported(), plain - exported()
    texts = rules.files()
    for source in ("observer", "collector"):
        assert named - plain <= recorded(texts[source]), (where, source)


def test_both_sources_record_the_same() -> None:
    texts = rules.files()
    assert recorded(texts["observer"]) == recorded(texts["collector"])


def test_the_files_are_fresh() -> None:
    for path, text in wanted().items():
        assert path.read_text() == text, f"{path.name} is stale; run `make generate`"


def test_every_alert_is_in_the_runbook_with_a_sentence() -> None:
    book = (ROOT / "docs" / "alerts.md").read_text()
    sections = dict(re.findall(r"^### (\w+)\n\n(.+?)(?=\n#|\Z)", book, re.MULTILINE | re.DOTALL))
    alerts = {
        rule["alert"]: rule["annotations"]["runbook"]
        for text in rules.files().values()
        for group in yaml.safe_load(text)["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert alerts.keys() == sections.keys()
    for name, link in alerts.items():
        assert link == f"docs/alerts.md#{name.lower()}"
        assert len(sections[name].split()) > 15, name


def test_events_in_alerts_are_ones_that_happen() -> None:
    text = rules.files()["alerts"]
    assert f'reason="{reasons.ROLLED_BACK}"' in text
    assert 'reason="BuildFailed"' in text


STATUSES = [""] + [str(number) for number in range(17)]
FLAGS = ["-", *sorted(outcome.CLIENT_FLAGS), *sorted(outcome.BROKEN_FLAGS), "UH", "UC,DC", "UH,UC", "NR", "URX"]


def test_a_collectors_good_requests_are_those_that_did_not_fail() -> None:
    """The selectors against the one function that says so, for every combination."""
    for http in ("0", "200", "204", "301", "404", "429", "500", "503"):
        for grpc in STATUSES:
            for flags in FLAGS:
                for call in ("", "true"):
                    labels = {
                        "http_status_code": http, "grpc_status_code": grpc, "response_flags": flags, "tapchanger_grpc": call,
                    }  # fmt: skip
                    fits = [one for one in rules.good_selectors() if matches(one, labels)]
                    failed = outcome.judge(http, grpc or None, flags, grpc=call == "true").failed
                    assert len(fits) == (0 if failed else 1), (labels, fits)


def matches(selector: str, labels: dict[str, str]) -> bool:
    """Whether a series with `labels` fits, as Prometheus would say."""
    for label, operator, value in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', selector):
        fits = bool(re.fullmatch(value, labels[label])) if "~" in operator else labels[label] == value
        if fits == operator.startswith("!"):
            return False
    return True


def test_facts_are_those_of_the_last_pass() -> None:
    spec = TransformerDeploymentSpec.model_validate(
        {"model": MODEL, "slo": {"objectives": [{"latency": "50ms", "target": 0.99}, {"availability": 0.999}]}}
    )
    status = TransformerDeploymentStatus.model_validate(
        {
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "Ready"},
                {"type": "SLOMet", "status": "Unknown", "reason": "NoRequests"},
            ],
            "stable": {"revision": "r1", "build": "b", "uri": "pvc://m/a", "weight": 95},
            "analysis": {
                "revision": "r2", "verdict": "Inconclusive", "reason": "Undecided", "message": "", "at": "2026-01-01T00:00:00Z",
                "evidence": [
                    {
                        "objective": "99% within 50ms", "requests": 10, "bad": 1, "stableRequests": 5, "stableBad": 0,
                        "eValue": 10.0, "threshold": 100.0,
                    }
                ],
            },
        }
    )  # fmt: skip
    told, own = gauges.Told(), CollectorRegistry()
    own.register(told)
    told.tell("team-a", "moderation", gauges.facts(spec, status))
    owner = {"namespace": "team-a", "name": "moderation"}
    assert own.get_sample_value("tapchanger_objective_target", {**owner, "threshold": "0.05"}) == 0.99
    assert own.get_sample_value("tapchanger_objective_target", {**owner, "threshold": ""}) == 0.999
    weight = own.get_sample_value("tapchanger_revision_weight_percent", {**owner, "role": "stable", "revision": "r1"})
    assert weight == 95
    evidence = own.get_sample_value("tapchanger_verdict_evidence", {**owner, "objective": "99% within 50ms"})
    assert evidence == pytest.approx(0.5)
    assert own.get_sample_value("tapchanger_condition", {**owner, "type": "Ready"}) == 1
    assert own.get_sample_value("tapchanger_condition", {**owner, "type": "SLOMet"}) is None
    told.tell("team-a", "moderation", None)
    assert own.get_sample_value("tapchanger_condition", {**owner, "type": "Ready"}) is None
