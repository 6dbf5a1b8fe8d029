"""What `kstatus` (Flux, `helm --wait`) reads from a custom resource.

Written from the rules in https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Health = Literal["Current", "InProgress", "Failed", "Terminating"]


def health(body: Mapping[str, Any]) -> Health:
    """The status that a deployer computes of `body`."""
    meta, status = body["metadata"], body.get("status", {})
    if "deletionTimestamp" in meta:
        return "Terminating"
    if "observedGeneration" in status and status["observedGeneration"] != meta["generation"]:
        return "InProgress"
    conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    if conditions.get("Ready", "True") != "True":
        return "InProgress"
    return "Current"
