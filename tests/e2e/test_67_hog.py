"""Something else on the node takes the CPU before a canary's first step and on: both revisions are slow, and neither is blamed.

Both have an engine of the same kind: one that computes on more threads is the worse for a busy node, and may be blamed for it.
Where it begins later it may strike one of both alone for some seconds; docs/adr/0016-trouble-that-both-have.md says what follows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dev.common.deployment import Deployment
from dev.common.follow import Follower
from dev.common.kubectl import Kubectl
from dev.common.stack import Stack
from dev.common.traffic import failed
from dev.common.waiting import until
from tests.e2e.support import Make, load_on

pytestmark = pytest.mark.usefixtures("quiet")

HOG_SECONDS = 15.0
HOG = {"requests": {"cpu": "200m", "memory": "16Mi"}}
"""Four times the share of the CPU that a server of these tests has."""
THRESHOLD = 0.010
RATE = 40.0
TRIES = 3
"""How often the step may begin anew: the rest of the machine takes its part of a threshold that is this close."""
STEPS = [{"weight": 50, "hold": "20s"}]


@contextmanager
def hog(stack: Stack, namespace: str) -> Iterator[None]:
    """A pod with twice as many busy loops as CPUs, until the end of the block and no longer than two minutes."""
    command = "for i in $(seq $((2 * $(nproc)))); do timeout 120 sh -c 'while :; do :; done' & done; wait"
    container = {"name": "hog", "image": stack.images["builder"], "command": ["sh", "-c", command], "resources": HOG}
    stack.kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "hog", "namespace": namespace},
            "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]},
        }
    )
    try:
        running = "a hog that runs"
        until(running, lambda: stack.kubectl.get("pod", "hog", namespace)["status"]["phase"] == "Running", 60)
        yield
    finally:
        stack.kubectl.delete("pod", "hog", namespace)


def ended_step(deployment: Deployment) -> dict[str, Any] | None:
    """The status once the step has no verdict in time, or its canary is gone: promoted or rolled back."""
    status = deployment.status()
    canary = status.get("canary")
    return status if not canary or canary.get("paused") else None


def test_a_load_that_slows_both_revisions_rolls_nothing_back(
    stack: Stack,
    kubectl: Kubectl,
    engines: dict[str, Deployment],
    make: Make,
    space: str,
    texts: list[str],
    words: Callable[[str], None],
) -> None:
    deployment = make(
        "hogged",
        "moderation-v1",
        slo={"objectives": [{"latency": f"{THRESHOLD * 1000:g}ms", "target": 0.9}]},
        rollout={"steps": STEPS, "analysis": {"minRequests": 100, "timeout": "35s"}, "watch": "1m"},
    )
    deployment.apply()
    old = deployment.wait_ready(180)["stable"]["revision"]
    with Follower(kubectl, "hogged", space) as follower, load_on(deployment, texts, RATE) as load:
        deployment.change_uri("pvc://models/moderation-v2")
        until("servers", lambda: deployment.canary().get("availableAt"), 300, last=deployment.picture)
        with hog(stack, space):
            until("the first step", lambda: deployment.canary().get("step") == 0, 60, last=deployment.picture)
            began = time.time()
            time.sleep(HOG_SECONDS)
            ended = time.time()
        status = until("a step that has ended", lambda: ended_step(deployment), 60, last=deployment.picture)
        for number in range(1, TRIES + 1):
            if not status.get("canary"):
                break
            order = f"tapchanger.dev/resume={status['canary']['revision']}/1 whatever took the CPU is gone ({number})"
            kubectl("annotate", "--overwrite", "tdep", "hogged", "-n", space, order)
            until("the step to begin anew", lambda: not deployment.canary().get("paused"), 30, last=deployment.picture)
            status = until("a step that has ended", lambda: ended_step(deployment), 60, last=deployment.picture)
    told = "\n".join(follower.messages())
    assert not status.get("rejected"), told
    assert "rolled back" not in told, told
    # A machine with other work may leave it undecided to the end, which is no rollback either.
    new = status.get("canary", status["stable"])["revision"]
    assert new != old
    assert status["stable"]["revision"] in (old, new)
    answers = load.records()
    assert not failed(answers), failed(answers)[:5]
    during = answers.between(began + 2.0, ended)
    slow = {name: during.of_revision(name).where(lambda answer: answer.seconds > THRESHOLD) for name in (old, new)}
    shares = {name: len(slow[name]) / len(during.of_revision(name)) for name in (old, new)}
    words(
        f"slow while the CPU was taken (10 % allowed): {shares[old]:.0%} of stable's, {shares[new]:.0%} of the canary's"
    )
    assert min(shares.values()) > 0.05, shares
