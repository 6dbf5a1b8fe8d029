"""A new model under load: the weights follow the steps, nobody notices, and the spec stays as its owner wrote it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from dev.common.deployment import Deployment
from dev.common.follow import Follower, stages
from dev.common.kubectl import Kubectl, condition
from dev.common.traffic import failed, shares
from tests.e2e.support import Make, load_on

pytestmark = pytest.mark.usefixtures("beside")

RATE = 40.0
STEPS = [{"weight": 5, "hold": "12s"}, {"weight": 20, "hold": "38s"}]
"""Each is held so long that the standard error of its share at 40 requests a second is at most 1.1 points: with n requests it is
sqrt(w (1 - w) / n), which takes 393 requests at 5 % and 1,322 at 20 %, and the share's first two seconds are not counted."""
TOLERANCE = 3.0
LARGEST_ERROR = 1.1


def test_a_new_model_is_promoted_without_a_failed_request(
    kubectl: Kubectl,
    engines: dict[str, Deployment],
    make: Make,
    space: str,
    texts: list[str],
    words: Callable[[str], None],
) -> None:
    deployment = make(
        "promoted",
        "moderation-v1",
        router={"replicas": 2},
        slo={"objectives": [{"latency": "250ms", "target": 0.95}, {"availability": 0.999}]},
        rollout={"steps": STEPS, "analysis": {"minRequests": 10, "timeout": "1m"}, "watch": "1m"},
    )
    deployment.apply()
    old = deployment.wait_ready(180)["stable"]["revision"]

    with (
        Follower(kubectl, "promoted", space) as follower,
        load_on(deployment, texts, RATE) as load,
    ):
        deployment.change_uri("pvc://models/moderation-v2")
        written = deployment.body()["spec"]
        status = deployment.wait_ready(500)
        time.sleep(4.0)
    answers = load.records()

    new = status["stable"]["revision"]
    assert new != old
    seen = shares(answers, stages(follower.seen, follower.seen[-1].at))
    for share in seen:
        words(
            f"share at {share.wanted} %: {share.seen:.1f} % of {share.requests} requests, standard error {share.error:.2f}"
        )
    assert [share.wanted for share in seen] == [step["weight"] for step in STEPS]
    assert all(share.error <= LARGEST_ERROR for share in seen), seen
    assert all(abs(share.seen - share.wanted) <= TOLERANCE for share in seen), seen
    assert answers[-20:].revisions() == [new]
    words(f"failed requests while promoting: {len(failed(answers))} of {len(answers)}")
    assert not failed(answers), failed(answers)[:5]

    assert deployment.body()["spec"] == written
    assert deployment.difference() == ""
    assert condition({"status": status}, "Progressing")["status"] == "False"
    told = "\n".join(follower.messages())
    for phrase in (
        f"canary {new} is starting",
        f"canary {new} at 5 %",
        f"canary {new} at 20 %",
        f"{new} serves all requests",
    ):
        assert phrase in told, told
    assert all(follower.messages()), told
    events = {item["reason"] for item in kubectl.items("events", space) if item["involvedObject"]["name"] == "promoted"}
    assert {"CanaryStarting", "CanaryStep", "Promoted"} <= events
