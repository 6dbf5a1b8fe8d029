"""Orders that people give a rollout, and what the operator answers."""

from __future__ import annotations

from typing import Any

from dev.common.deployment import Deployment
from dev.common.waiting import until

SLOW_IS_BAD = {"objectives": [{"latency": "50ms", "target": 0.95}]}
PATIENT = {"steps": [{"weight": 20}, {"weight": 50}], "analysis": {"minRequests": 100000}, "watch": "10m"}
"""No step is ever passed by a verdict: only orders move this rollout on."""


def order(deployment: Deployment, **annotations: str | None) -> None:
    """`kubectl annotate`; None removes one."""
    words = [f"tapchanger.dev/{name}{'-' if value is None else f'={value}'}" for name, value in annotations.items()]
    deployment.kubectl("annotate", "tdep", deployment.name, "-n", deployment.namespace, "--overwrite", *words)


def answered(deployment: Deployment, name: str, value: str) -> dict[str, Any]:
    """What the operator answers to an order."""

    def look() -> dict[str, Any] | None:
        given = deployment.status().get("controls", [])
        return next((entry for entry in given if (entry["order"], entry["value"]) == (name, value)), None)

    return until(f"an answer to {name}={value}", look, 20, last=deployment.picture)


def canary_at(deployment: Deployment, weight: int) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        canary: dict[str, Any] = deployment.status().get("canary", {})
        return canary if canary.get("weight") == weight else None

    return until(f"a canary at {weight} %", look, 120, last=deployment.picture)


def give(deployment: Deployment, name: str, value: str) -> dict[str, Any]:
    order(deployment, **{name: value})
    return answered(deployment, name, value)
