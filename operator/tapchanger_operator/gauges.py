"""What a deployment's spec promises and its status says, as Prometheus metrics, made from the last pass when they are scraped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from threading import Lock
from typing import Final, NamedTuple

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tapchanger_operator.api.base import seconds
from tapchanger_operator.api.spec import TransformerDeploymentSpec
from tapchanger_operator.api.status import TransformerDeploymentStatus

OWNER: Final = ("namespace", "name")
_TRUTH: Final = {"True": 1.0, "False": 0.0}


class Facts(NamedTuple):
    """One deployment's figures.

    `targets`: by threshold in seconds (empty for availability), the share of requests that is promised to be good. `weights`:
    by role and revision, percent. `evidence`: by objective, 0 for none and 1 where the canary fails, on a scale of logarithms.
    `conditions`: by type, where it isn't unknown.
    """

    targets: Mapping[str, float]
    weights: Mapping[tuple[str, str], float]
    evidence: Mapping[str, float]
    conditions: Mapping[str, float]


def facts(spec: TransformerDeploymentSpec, status: TransformerDeploymentStatus) -> Facts:
    """The figures in a spec and a status."""
    targets: dict[str, float] = {}
    for objective in spec.slo.objectives:
        if objective.latency is not None and objective.target is not None:
            targets[repr(seconds(objective.latency))] = objective.target
        elif objective.availability is not None:
            targets[""] = objective.availability
    roles = {"stable": status.stable, "canary": status.canary, "previous": status.previous}
    weights = {(role, one.revision): float(one.weight) for role, one in roles.items() if one}
    weights |= {(arm.name, arm.revision): float(arm.weight) for arm in status.arms if arm.revision}
    evidence = {
        entry.objective: math.log(max(entry.e_value, 1.0)) / math.log(entry.threshold)
        for entry in (status.analysis.evidence if status.analysis else ())
        if entry.threshold > 1.0
    }
    conditions = {one.type: _TRUTH[one.status] for one in status.conditions if one.status in _TRUTH}
    return Facts(targets, weights, evidence, conditions)


class Told(Collector):
    """The facts of every deployment that this replica has passed over."""

    def __init__(self) -> None:
        self._facts: dict[tuple[str, str], Facts] = {}
        self._lock = Lock()

    def tell(self, namespace: str, name: str, told: Facts | None) -> None:
        """Keeps a deployment's facts; None where it is gone."""
        with self._lock:
            if told is None:
                self._facts.pop((namespace, name), None)
            else:
                self._facts[namespace, name] = told

    def collect(self) -> Iterator[Metric]:
        """The metrics."""
        target = GaugeMetricFamily(
            "tapchanger_objective_target",
            "Share of requests that an objective promises; without a threshold (seconds) that of availability.",
            labels=[*OWNER, "threshold"],
        )
        weight = GaugeMetricFamily(
            "tapchanger_revision_weight_percent", "Percent of the traffic.", labels=[*OWNER, "role", "revision"]
        )
        evidence = GaugeMetricFamily(
            "tapchanger_verdict_evidence",
            "Evidence against the canary, 1 where it fails, on a scale of logarithms.",
            labels=[*OWNER, "objective"],
        )
        condition = GaugeMetricFamily(
            "tapchanger_condition", "1 where a condition is true, 0 where it is false.", labels=[*OWNER, "type"]
        )
        with self._lock:
            known = dict(self._facts)
        for owner, told in sorted(known.items()):
            for threshold, share in told.targets.items():
                target.add_metric([*owner, threshold], share)
            for (role, revision), percent in told.weights.items():
                weight.add_metric([*owner, role, revision], percent)
            for objective, value in told.evidence.items():
                evidence.add_metric([*owner, objective], value)
            for kind, truth in told.conditions.items():
                condition.add_metric([*owner, kind], truth)
        yield from (target, weight, evidence, condition)


TOLD: Final = Told()
REGISTRY.register(TOLD)
