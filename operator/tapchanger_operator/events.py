"""Kubernetes Events: what changed, where `kubectl describe` shows it."""

from __future__ import annotations

from typing import Any

from tapchanger_operator import names
from tapchanger_operator.api.base import API_VERSION, timestamp
from tapchanger_operator.decide.state import Change
from tapchanger_operator.names import Owner

_LONGEST_NOTE = 1000


def event(owner: Owner, change: Change, now: float, identity: str) -> dict[str, Any]:
    """The Event for one change. Its name is made from the change, so that a pass that is repeated does not tell it twice."""
    key = names.content_hash([owner.uid, change.reason, change.message, int(now // 60)], 16)
    time = timestamp(now)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{owner.name}.{key}", "namespace": owner.namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": owner.kind,
            "name": owner.name,
            "namespace": owner.namespace,
            "uid": owner.uid,
        },
        "type": change.kind,
        "reason": change.reason,
        "message": change.message[:_LONGEST_NOTE],
        "source": {"component": "tapchanger-operator"},
        "reportingComponent": "tapchanger-operator",
        "reportingInstance": identity,
        "action": change.reason,
        "firstTimestamp": f"{time[:19]}Z",
        "lastTimestamp": f"{time[:19]}Z",
        "count": 1,
    }
