"""The ConfigMap that keeps what like hours looked like."""

from __future__ import annotations

from tapchanger_operator import names
from tapchanger_operator.names import Owner
from tapchanger_operator.plan.common import Manifest, labels, metadata


def config_map(owner: Owner, text: str) -> Manifest:
    """With the counts as JSON."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(owner, names.drift_hours(owner.name), labels(owner, names.COMPONENT_DRIFT)),
        "data": {names.DRIFT_HOURS: text},
    }
