"""Traffic that changes: requests like the first ones, then texts of another kind."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from dev.common.waiting import until
from tests.e2e.scenarios.beside import Scene
from tests.e2e.support import ONE_CANDIDATE, load_on

NAME = "drifting"
RATE = 12.0
"""Slow enough that no text comes twice within a minute."""
QUIET_SECONDS = 40.0


@dataclass(frozen=True)
class Noticed:
    """`status.drift` and all of `status` once it was noticed, the Events of it, and the seconds that it took."""

    drift: dict[str, Any]
    status: dict[str, Any]
    events: list[dict[str, Any]]
    seconds: float


def run(scene: Scene) -> Noticed:
    deployment = scene.described(
        NAME,
        "moderation-v1",
        engine=ONE_CANDIDATE,
        drift={"reference": {"firstRequests": 150}, "falseAlarmEvery": "10m"},
    )
    deployment.apply()
    deployment.wait_ready(180)
    with load_on(deployment, scene.texts[:900], RATE):
        time.sleep(QUIET_SECONDS)
    # Neighbouring texts as one: the same words, but longer than any that came before.
    longer = [" ".join(scene.texts[at : at + 12]) for at in range(900)]
    changed = time.time()
    with load_on(deployment, longer, RATE):
        drift = until(
            "DriftFree False",
            lambda: (found := deployment.status().get("drift", {})).get("verdict") in ("tokens", "embedding") and found,
            120,
            last=deployment.picture,
        )
    seconds = time.time() - changed
    events = scene.kubectl.items("events", scene.space)
    mine = [one for one in events if one["involvedObject"]["name"] == NAME and one["reason"] == "Drifted"]
    noticed = Noticed(drift, deployment.status(), mine, seconds)
    scene.kubectl.delete("tdep", NAME, scene.space)
    return noticed
