"""Copied requests: a bad canary is taken back before any user meets it, and of a good one it is told how alike it answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dev.common.deployment import Deployment
from dev.common.follow import Follower
from dev.common.inference import ask_http
from dev.common.kubectl import Kubectl
from dev.common.traffic import failed
from dev.common.waiting import until
from tests.e2e.support import ONE_CANDIDATE, Make, load_on

pytestmark = pytest.mark.usefixtures("beside")

MIRROR: dict[str, Any] = {"mirror": 100, "steps": [{"weight": 50}], "watch": "1m"}
TEXTS = 400


def labels(deployment: Deployment, texts: list[str]) -> list[str]:
    """What a deployment answers when it is asked directly."""
    _, http = deployment.address()
    replies = [ask_http(http, deployment.name, texts[begin : begin + 25]) for begin in range(0, len(texts), 25)]
    return [str(label) for reply in replies for label in reply.outputs["label"].reshape(-1)]


def test_a_canary_that_fails_is_rolled_back_before_any_user_meets_it(
    engines: dict[str, Deployment], make: Make, flaky_texts: list[str], words: Callable[[str], None]
) -> None:
    deployment = make(
        "copied-flaky",
        "moderation-v1",
        engine=ONE_CANDIDATE,
        slo={"objectives": [{"availability": 0.999}]},
        rollout={**MIRROR, "mirrorGate": {"minRequests": 2000, "timeout": "2m"}},
    )
    deployment.apply()
    old = deployment.wait_ready(180)["stable"]["revision"]
    with load_on(deployment, flaky_texts, 40.0) as load:
        deployment.change_uri("pvc://models/moderation-flaky")
        status = until(
            "a rejection",
            lambda: (found := deployment.status()).get("rejected") and found,
            200,
            last=deployment.picture,
        )
    rejection, answers = status["rejected"][-1], load.records()
    words(f"while copies went to moderation-flaky: {len(failed(answers))} of {len(answers)} requests failed")
    assert rejection["reason"] == "ObjectiveBreached"
    assert set(answers.revisions()) == {old}
    assert not failed(answers), failed(answers)[:5]


def test_how_alike_a_canary_answers_is_told_and_true(
    kubectl: Kubectl,
    engines: dict[str, Deployment],
    make: Make,
    space: str,
    texts: list[str],
    words: Callable[[str], None],
) -> None:
    sent = texts[:TEXTS]
    before, after = labels(engines["plain"], sent), labels(engines["next"], sent)
    share = sum(one == other for one, other in zip(before, after, strict=True)) / len(sent)
    deployment = make(
        "copied",
        "moderation-v1",
        engine=ONE_CANDIDATE,
        slo={"objectives": [{"latency": "500ms", "target": 0.9}, {"availability": 0.999}]},
        rollout={
            **MIRROR,
            "mirrorGate": {"minRequests": 600, "minAgreement": round(share - 0.1, 2), "timeout": "3m"},
            "analysis": {"minRequests": 40, "timeout": "45s"},
        },
    )
    deployment.apply()
    deployment.wait_ready(180)
    with Follower(kubectl, deployment.name, space) as follower, load_on(deployment, sent, 40.0) as load:
        deployment.manifest["spec"]["engine"] = {}
        deployment.change_uri("pvc://models/moderation-v2")
        until("a first step", lambda: deployment.canary().get("step") == 0, 200, last=deployment.picture)
        mirror = deployment.canary()["mirror"]
        new = deployment.canary()["revision"]
        status = deployment.wait_ready(200)
    answers = load.records()
    words(
        f"agreement of moderation-v1 and v2: {share:.4f} asked directly, {mirror['agreement']:.4f} "
        f"({mirror['agreementLow']:.4f} to {mirror['agreementHigh']:.4f}) of {mirror['requests']} copies"
    )
    assert mirror["requests"] >= 600
    assert mirror["agreementLow"] <= share <= mirror["agreementHigh"]
    changed = {(one, other) for one, other in zip(before, after, strict=True) if one != other}
    assert {(flip["stable"], flip["canary"]) for flip in mirror["flips"]} <= changed
    assert mirror["exemplars"]
    assert mirror.get("failed", 0) == 0
    assert status["stable"]["revision"] == new
    assert not failed(answers), failed(answers)[:5]
    told = "\n".join(follower.messages())
    assert f"canary {new} gets copies of 100 % of the requests" in told, told
    events = {e["reason"] for e in kubectl.items("events", space) if e["involvedObject"]["name"] == deployment.name}
    assert {"CanaryMirroring", "Mirrored", "Promoted"} <= events
