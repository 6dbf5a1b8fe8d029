"""The `tapchanger` command on a real rollout: it shows, explains and steers, and tells programs the same as people."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dev.common.deployment import Deployment
from dev.common.waiting import until
from tests.e2e.orders import PATIENT
from tests.e2e.support import ONE_CANDIDATE, Make

pytestmark = pytest.mark.usefixtures("beside")


def ran(deployment: Deployment, *words: str) -> subprocess.CompletedProcess[str]:
    """`tapchanger WORDS`, on the deployment's cluster and namespace."""
    where = ["--kubeconfig", str(deployment.kubectl.kubeconfig), "--namespace", deployment.namespace]
    command = [sys.executable, "-m", "tapchanger_cli", *words, *where]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def said(deployment: Deployment, *words: str) -> dict[str, Any]:
    """What the command answers as JSON; its exit status must be 0."""
    done = ran(deployment, *words, "-o", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def at_weight(deployment: Deployment, weight: int) -> str:
    def look() -> str | None:
        canary = deployment.status().get("canary", {})
        return str(canary["revision"]) if canary.get("weight") == weight else None

    return until(f"a canary at {weight} %", look, 120, last=deployment.picture)


def test_a_rollout_is_steered_from_its_start_to_its_end(engines: dict[str, Deployment], make: Make) -> None:
    deployment = make("commanded", "moderation-v1", engine=ONE_CANDIDATE, rollout=PATIENT)
    deployment.apply()
    old = deployment.wait_ready(180)["stable"]["revision"]
    refused = ran(deployment, "promote", deployment.name)
    assert refused.returncode == 1
    assert "no canary" in refused.stderr
    assert "tapchanger.dev/promote" not in deployment.body()["metadata"].get("annotations", {})

    deployment.change_uri("pvc://models/moderation-slow")
    new = at_weight(deployment, 20)
    shown = ran(deployment, "status", deployment.name).stdout
    assert old in shown
    assert new in shown
    assert "20 %" in shown
    assert said(deployment, "pause", deployment.name, "--reason", "release freeze")["done"]
    assert said(deployment, "status", deployment.name)["hold"]["effective"]
    assert "release freeze" in ran(deployment, "explain", deployment.name).stdout
    assert said(deployment, "resume", deployment.name)["done"]
    assert said(deployment, "skip", deployment.name, "--reason", "nothing is sent here")["done"]
    assert at_weight(deployment, 50) == new
    assert said(deployment, "abort", deployment.name, "--reason", "for the test")["done"]
    assert said(deployment, "retry", deployment.name)["done"]
    assert at_weight(deployment, 20) == new
    assert said(deployment, "promote", deployment.name)["done"]
    deployment.wait_ready(30)
    history = said(deployment, "history", deployment.name)["items"]
    assert [entry["event"] for entry in history] == ["Started", "RolledBack", "Retried", "Started", "Promoted"]
    assert said(deployment, "abort", deployment.name, "--reason", "back to what was")["done"]
    assert deployment.status()["stable"]["revision"] == old
    explained = said(deployment, "explain", deployment.name)
    assert explained["rejected"][0]["reason"] == "Aborted"
    assert explained["build"] is not None
    assert deployment.difference() == ""


def test_kubectl_finds_it_by_its_name(engines: dict[str, Deployment]) -> None:
    deployment = engines["plain"]
    where = ["-n", deployment.namespace, "--kubeconfig", str(deployment.kubectl.kubeconfig)]
    command = [str(deployment.kubectl.binary), "tapchanger", "status", *where]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 0, done.stderr
    assert deployment.name in done.stdout
