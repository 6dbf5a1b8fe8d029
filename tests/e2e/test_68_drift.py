"""Traffic that changes: requests like the first ones are no drift, other ones are, with the name of what moved."""

from __future__ import annotations

import time
from collections.abc import Callable

from dev.common.deployment import Deployment
from dev.common.kubectl import Kubectl
from dev.common.waiting import until
from tests.e2e.support import ONE_CANDIDATE, Make, load_on

RATE = 12.0
"""Slow enough that no text comes twice within a minute."""
QUIET_SECONDS = 40.0


def test_texts_of_another_kind_are_noticed_and_named(
    kubectl: Kubectl,
    engines: dict[str, Deployment],
    make: Make,
    texts: list[str],
    words: Callable[[str], None],
) -> None:
    deployment = make(
        "drifting",
        "moderation-v1",
        engine=ONE_CANDIDATE,
        drift={"reference": {"firstRequests": 150}, "falseAlarmEvery": "10m"},
    )
    deployment.apply()
    deployment.wait_ready(180)
    with load_on(deployment, texts[:900], RATE):
        time.sleep(QUIET_SECONDS)
    # Neighbouring texts as one: the same words, but longer than any that came before.
    longer = [" ".join(texts[at : at + 12]) for at in range(900)]
    changed = time.time()
    with load_on(deployment, longer, RATE):
        drift = until(
            "DriftFree False",
            lambda: (found := deployment.status().get("drift", {})).get("verdict") in ("tokens", "embedding") and found,
            120,
            last=deployment.picture,
        )
    words(f"noticed {time.time() - changed:.0f} s after the texts changed: {drift['message']}")
    condition = next(c for c in deployment.status()["conditions"] if c["type"] == "DriftFree")
    assert (condition["status"], condition["reason"]) == ("False", "Drifted")
    assert drift["reference"].startswith("the first ")
    assert drift["texts"] > 0
    events = kubectl.items("events", deployment.namespace)
    mine = [one for one in events if one["involvedObject"]["name"] == "drifting" and one["reason"] == "Drifted"]
    assert len(mine) == 1
