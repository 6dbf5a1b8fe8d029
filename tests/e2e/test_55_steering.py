"""People steer a rollout and are named for it; what breaks after its promotion is taken back; deployers read the truth."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.common import stack as stacks
from dev.common.deployment import Deployment
from dev.common.kubectl import Kubectl, condition
from dev.common.shell import CommandError
from dev.common.stack import Stack
from dev.common.traffic import failed
from dev.common.waiting import until
from tests.e2e.support import ONE_CANDIDATE, Make, described, load_on

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


def stalled(deployment: Deployment) -> str:
    return str(condition({"status": deployment.status()}, "Stalled").get("reason", ""))


def canary_at(deployment: Deployment, weight: int) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        canary: dict[str, Any] = deployment.status().get("canary", {})
        return canary if canary.get("weight") == weight else None

    return until(f"a canary at {weight} %", look, 120, last=deployment.picture)


def give(deployment: Deployment, name: str, value: str) -> dict[str, Any]:
    order(deployment, **{name: value})
    return answered(deployment, name, value)


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


def test_a_model_that_shows_itself_bad_after_its_promotion_is_taken_back(
    engines: dict[str, Deployment], make: Make, long_texts: list[str], words: Callable[[str], None]
) -> None:
    deployment = make("watched", "moderation-v1", engine=ONE_CANDIDATE, slo=SLOW_IS_BAD, rollout=PATIENT)
    deployment.apply()
    old = deployment.wait_ready(180)["stable"]["revision"]
    deployment.change_uri("pvc://models/moderation-slow")
    new = canary_at(deployment, 20)["revision"]
    assert give(deployment, "promote", f"{new} before it was seen")["done"]
    deployment.wait_ready(30)

    with load_on(deployment, long_texts, 15.0) as load:
        began = time.time()
        status = until(
            "the return", lambda: (found := deployment.status()).get("rejected") and found, 60, last=deployment.picture
        )
        time.sleep(4.0)
    answers = load.records()
    words(f"return after a promotion: {time.time() - began - 4.0:.1f} s from the first request to the rejection")
    assert status["stable"]["revision"] == old
    assert [entry["event"] for entry in status["history"]] == ["Started", "Promoted", "Suspected", "RolledBack"]
    assert answers[-15:].revisions() == [old]
    assert not failed(answers), failed(answers)[:5]


@pytest.fixture
def release(stack: Stack, space: str, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """`helm upgrade --install --wait` of a team's own chart with one deployment."""
    chart = tmp_path / "team"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: team\nversion: 1.0.0\n")
    name = "released"

    def upgrade(uri: str, seconds: int = 180, **spec: Any) -> str:
        manifest = described(stack.kubectl, space, name, uri, engine=ONE_CANDIDATE, **spec).manifest
        (chart / "templates" / "model.yaml").write_text(json.dumps(manifest))
        flags = ["--namespace", space, "--wait", "--timeout", f"{seconds}s"]
        return stacks.helm(stack, "upgrade", "--install", "team", str(chart), *flags)

    yield upgrade
    stacks.helm(stack, "uninstall", "team", "--namespace", space, "--ignore-not-found", "--wait")


def test_helm_waits_for_the_promotion_and_fails_with_the_rollback(
    engines: dict[str, Deployment],
    release: Callable[..., str],
    kubectl: Kubectl,
    space: str,
    long_texts: list[str],
) -> None:
    analysis = {"minRequests": 40, "timeout": "1m"}
    spec = {"slo": SLOW_IS_BAD, "rollout": {"steps": [{"weight": 20}], "analysis": analysis, "watch": "1m"}}
    release("moderation-v1", **spec)
    deployment = described(kubectl, space, "released", "moderation-v1")
    old = deployment.status()["stable"]["revision"]
    with load_on(deployment, long_texts, 15.0):
        with pytest.raises((CommandError, subprocess.SubprocessError)) as problem:
            release("moderation-slow", **spec)
        assert "released" in str(problem.value)
        assert deployment.status()["rejected"], "helm failed, but not for the rollback"
        assert deployment.status()["stable"]["revision"] == old
        release("moderation-flaky", **spec)
    status = deployment.status()
    assert condition({"status": status}, "Ready")["status"] == "True"
    assert status["stable"]["uri"] == "pvc://models/moderation-flaky"
