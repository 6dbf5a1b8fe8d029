"""The data plane needs no control plane, and the control plane may be killed at any moment."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dev.common.deployment import Deployment
from dev.common.follow import Follower, stages
from dev.common.kubectl import Kubectl
from dev.common.stack import SYSTEM
from dev.common.traffic import failed
from dev.common.waiting import until
from tests.e2e.support import ONE_CANDIDATE, Make, load_on

pytestmark = pytest.mark.usefixtures("ended")

OPERATOR = "app.kubernetes.io/component=operator"
KILLS = 10
RATE = 20.0
ROUTERS = 2


def processes_of(pod_uid: str, program: str) -> list[int]:
    """Pids, on this machine, of the processes of a pod whose command line holds `program`."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            groups = (folder / "cgroup").read_text()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if pod_uid in groups.replace("_", "-") and program in command:
            found.append(int(folder.name))
    return found


def kill_operators(kubectl: Kubectl) -> int:
    """SIGKILL to each operator's process; a pod whose restart the kubelet delays is replaced. How many were hit."""
    hit = 0
    for pod in kubectl.items("pods", SYSTEM, OPERATOR):
        for pid in processes_of(pod["metadata"]["uid"], "tapchanger_operator"):
            os.kill(pid, signal.SIGKILL)
            hit += 1
    return hit


def replace_delayed(kubectl: Kubectl) -> None:
    """Deletes operators' pods that wait to be restarted, as a person would who does not want to wait as well."""
    for pod in kubectl.items("pods", SYSTEM, OPERATOR):
        states = [
            c.get("state", {}).get("waiting", {}).get("reason") for c in pod["status"].get("containerStatuses", [])
        ]
        if "CrashLoopBackOff" in states and "deletionTimestamp" not in pod["metadata"]:
            kubectl("delete", "pod", pod["metadata"]["name"], "-n", SYSTEM, "--wait=false", "--grace-period=1")


def leader(kubectl: Kubectl) -> tuple[str, str]:
    """Who holds the Lease, and when it was renewed last."""
    lease = kubectl.get("lease", "tapchanger-operator", SYSTEM)
    spec = lease["spec"] if lease else {}
    return spec.get("holderIdentity", ""), spec.get("renewTime", "")


def wait_for_work(kubectl: Kubectl) -> None:
    """Until an operator renews the Lease, which it does only while it works."""
    before = leader(kubectl)

    def works() -> bool:
        replace_delayed(kubectl)
        return leader(kubectl) != before

    until("an operator to lead", works, 90, every=0.3)


def test_killing_the_operator_during_a_canary_costs_nothing_but_time(
    kubectl: Kubectl,
    engines: dict[str, Deployment],
    make: Make,
    space: str,
    texts: list[str],
    words: Callable[[str], None],
) -> None:
    steps = [{"weight": 10, "hold": "40s"}, {"weight": 50, "hold": "40s"}]
    deployment = make(
        "killed",
        "moderation-v1",
        slo={"objectives": [{"latency": "250ms", "target": 0.95}, {"availability": 0.99}]},
        rollout={"steps": steps, "analysis": {"minRequests": 50, "timeout": "2m"}, "watch": "1m"},
    )
    deployment.apply()
    old = deployment.wait_ready(180)["stable"]["revision"]
    chance = random.Random(20261124)
    kills = in_canary = 0
    with Follower(kubectl, "killed", space) as follower, load_on(deployment, texts, RATE) as load:
        deployment.change_uri("pvc://models/moderation-v2")
        until("a canary", lambda: deployment.status().get("canary"), 300, last=deployment.picture)
        began = time.monotonic()
        while kills < KILLS:
            wait_for_work(kubectl)
            time.sleep(chance.uniform(0.0, 4.0))
            canary = "canary" in deployment.body()["status"]
            assert kill_operators(kubectl) > 0
            kills += 1
            in_canary += canary
        took = time.monotonic() - began
        replace_delayed(kubectl)
        status = deployment.wait_ready(300)
    weights = [stage.weight for stage in stages(follower.seen, follower.seen[-1].at)]
    words(
        f"SIGKILLs of the operator: {kills} in {took:.0f} s, {in_canary} of them while a canary was under way; weights {weights}"
    )
    assert weights == [step["weight"] for step in steps]
    assert in_canary >= KILLS // 2
    assert status["stable"]["revision"] != old
    assert "rejected" not in status
    assert not failed(load.records()), failed(load.records())[:5]
    assert deployment.difference() == ""


@pytest.fixture
def without_control_plane(kubectl: Kubectl) -> Iterator[None]:
    names = ("tapchanger-operator", "tapchanger-observer")
    wanted = {}
    for name in names:
        found = kubectl.get("deployment", name, SYSTEM)
        assert found is not None
        wanted[name] = found["spec"]["replicas"]
        kubectl("scale", "deployment", name, "-n", SYSTEM, "--replicas=0")
    chosen = "app.kubernetes.io/component in (operator,observer)"
    until("the control plane to be gone", lambda: not kubectl.items("pods", SYSTEM, chosen), 90)
    yield
    for name in names:
        kubectl("scale", "deployment", name, "-n", SYSTEM, f"--replicas={wanted[name]}")
    for name in names:
        kubectl("rollout", "status", "deployment", name, "-n", SYSTEM, "--timeout=120s", seconds=130)


@pytest.fixture
def routed(make: Make) -> Deployment:
    """A deployment with two routers: with one, nobody would answer while another starts."""
    deployment = make("routed-twice", "moderation-v1", engine=ONE_CANDIDATE, router={"replicas": ROUTERS})
    deployment.apply()
    deployment.wait_ready(180)
    return deployment


def test_traffic_flows_and_routers_start_without_the_control_plane(
    kubectl: Kubectl, routed: Deployment, without_control_plane: None, texts: list[str]
) -> None:
    chosen = f"tapchanger.dev/deployment={routed.name},app.kubernetes.io/component=router"

    def running() -> list[str]:
        pods = kubectl.items("pods", routed.namespace, chosen)
        return [pod["metadata"]["name"] for pod in pods if ready(pod) and "deletionTimestamp" not in pod["metadata"]]

    before = running()
    assert len(before) == ROUTERS
    with load_on(routed, texts, RATE) as load:
        for gone in range(1, ROUTERS + 1):
            kubectl("delete", "pod", before[gone - 1], "-n", routed.namespace, "--wait=false")

            def replaced(gone: int = gone) -> bool:
                now = running()
                return len(now) == ROUTERS and not set(now) & set(before[:gone])

            until("a new router", replaced, 120, last=routed.picture)
        fresh_from = time.time()
        time.sleep(5)
    later = [answer for answer in load.records() if answer.sent > fresh_from + 1]
    assert len(later) > 50
    assert not failed(load.records()), failed(load.records())[:5]


def ready(pod: dict[str, object]) -> bool:
    conditions = pod["status"].get("conditions", [])  # type: ignore[attr-defined]
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
