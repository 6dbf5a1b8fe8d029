"""People steer a rollout and are named for it."""

from __future__ import annotations

import json

import pytest

from dev.common.deployment import Deployment
from dev.common.kubectl import condition
from dev.common.waiting import until
from tests.e2e.orders import PATIENT, SLOW_IS_BAD, canary_at, give, order
from tests.e2e.support import ONE_CANDIDATE, Make

pytestmark = pytest.mark.usefixtures("beside")


def stalled(deployment: Deployment) -> str:
    return str(condition({"status": deployment.status()}, "Stalled").get("reason", ""))


def test_every_order_is_carried_out_and_its_giver_named(engines: dict[str, Deployment], make: Make) -> None:
    deployment = make("steered", "moderation-v1", engine=ONE_CANDIDATE, slo=SLOW_IS_BAD, rollout=PATIENT)
    deployment.apply()
    old = deployment.wait_ready(180)["stable"]["revision"]
    deployment.change_uri("pvc://models/moderation-slow")
    new = canary_at(deployment, 20)["revision"]

    order(deployment, pause="release freeze")
    held = until("the hold", lambda: stalled(deployment) == "Held" and deployment.status(), 20, last=deployment.picture)
    assert "held by" in held["message"]
    assert "release freeze" in held["message"]
    order(deployment, pause=None)
    until("the rollout to go on", lambda: stalled(deployment) == "NotStalled", 20, last=deployment.picture)

    refused = give(deployment, "promote", old)
    assert not refused["done"]
    assert f"{old} is not the canary" in refused["message"]
    skipped = give(deployment, "skip", f"{new}/1 nothing is sent here")
    assert skipped["done"], skipped
    canary_at(deployment, 50)
    whoami = json.loads(deployment.kubectl("auth", "whoami", "-o", "json"))["status"]["userInfo"]["username"]
    assert skipped["by"] == whoami

    assert give(deployment, "abort", f"{new} for the test")["done"]
    status = deployment.wait_condition("Stalled", "True", 20)
    assert status["rejected"][-1]["reason"] == "Aborted"
    assert status["stable"]["revision"] == old
    assert give(deployment, "retry", f"{new} once more")["done"]
    canary_at(deployment, 20)
    assert give(deployment, "promote", f"{new} as it is")["done"]
    assert deployment.wait_ready(30)["stable"]["revision"] == new
    events = [(entry["event"], entry.get("by", "")) for entry in deployment.status()["history"]]
    assert events == [
        ("Started", ""), ("RolledBack", whoami), ("Retried", whoami), ("Started", ""), ("Promoted", whoami),
    ]  # fmt: skip
    assert deployment.difference() == ""

    deployment.change_uri("pvc://models/moderation-v1")
    status = deployment.wait_ready(20)
    assert status["stable"]["revision"] == old, "content that is still warm takes over at once"


def test_nobody_can_write_another_name_beside_an_order(engines: dict[str, Deployment], make: Make) -> None:
    deployment = make("signed", "moderation-v1", engine=ONE_CANDIDATE)
    deployment.apply()
    deployment.wait_ready(180)
    order(deployment, **{"promote": "abcdef0123 x", "promote-by": "somebody else"})
    whoami = json.loads(deployment.kubectl("auth", "whoami", "-o", "json"))["status"]["userInfo"]["username"]
    annotations = deployment.body()["metadata"]["annotations"]
    assert annotations["tapchanger.dev/promote-by"] == whoami
    order(deployment, **{"promote-by": "somebody else"})
    assert deployment.body()["metadata"]["annotations"]["tapchanger.dev/promote-by"] == whoami
