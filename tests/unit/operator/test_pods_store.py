"""Pods that wait for the operator's own claim are no trouble to tell of."""

from typing import Any

from tapchanger_operator.observe.pods import trouble


def _pod(message: str) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"metadata": {"name": "p"}, "status": {"conditions": [condition]}}


def test_a_pod_that_waits_for_the_store_is_no_trouble() -> None:
    assert (
        trouble([_pod('0/1 nodes are available: persistentvolumeclaim "tapchanger-artifacts" is being deleted.')])
        is None
    )


def test_a_pod_that_waits_for_another_claim_is() -> None:
    found = trouble([_pod('0/1 nodes are available: persistentvolumeclaim "models" not found.')])
    assert found is not None
    assert found.reason == "NoNodeFits"
