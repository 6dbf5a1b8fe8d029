"""What breaks after its promotion is taken back, and deployers read the truth."""

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
from tests.e2e.orders import PATIENT, SLOW_IS_BAD, canary_at, give
from tests.e2e.support import ONE_CANDIDATE, Make, described, load_on

pytestmark = pytest.mark.usefixtures("quiet")


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
