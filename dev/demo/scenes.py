"""The scenes on a running stack: serve, ask, promote, roll back. Each returns what was seen, or says what was not."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dev.common.deployment import Deployment
from dev.common.follow import Follower, Seen, stages
from dev.common.inference import GrpcClient
from dev.common.traffic import Answer, Share, failed, rollback_seconds, shares
from dev.common.waiting import LateError, until
from dev.load import Load, Plan

RATE: Final = 20.0
BUILD_SECONDS: Final = 600.0
CANARY_SECONDS: Final = 400.0
AFTER_SECONDS: Final = 5.0
"""How long the load goes on after a decision, so that a request to the wrong revision would be seen."""
PROMOTING: Final = ({"weight": 5, "hold": "20s"}, {"weight": 20, "hold": "40s"})
JUDGING: Final = ({"weight": 20, "hold": "30s"},)
QUICK_BUILD: Final = {"runtime": "openvino", "precision": "fp32", "gates": {}}
"""All candidates and all evaluation data of a model that is meant to be slow would take minutes."""

FIGURES_SECONDS: Final = 5.0
"""How often a sentence is told again of which only the figures have changed."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Promotion:
    """Who took over, what the routers did at each step, and which requests failed."""

    revision: str
    shares: list[Share]
    failed: list[Answer]


@dataclass(frozen=True)
class Rollback:
    """Which revision was taken back, how fast, and which requests failed."""

    revision: str
    seconds: float
    message: str
    failed: list[Answer]


def serve(deployment: Deployment, say: Say) -> dict[str, Any]:
    """Applies the manifest and follows it until it serves; the build's report. Raises LateError."""
    say(deployment.apply().strip())
    with Follower(deployment.kubectl, deployment.name, deployment.namespace, told=_teller(say)):
        status = deployment.wait_ready(BUILD_SECONDS)
    build = deployment.kubectl.get("eb", status["target"]["build"], deployment.namespace)
    if build is None:
        raise LateError(f"EngineBuild {status['target']['build']} is gone")
    report: dict[str, Any] = build["status"]["report"]
    say(f"engine: {report['why']}")
    return report


def ask(address: str, deployment: Deployment, texts: Sequence[str], say: Say) -> None:
    """Asks the model and prints its answers. Raises grpc.RpcError, or LateError where the revision is not named."""
    with GrpcClient(address) as client:
        reply = client.ask(deployment.name, texts)
    for text, label, score in zip(texts, reply.outputs["label"].ravel(), reply.outputs["score"].ravel(), strict=True):
        say(f"{label} ({score:.3f}), by revision {reply.revision}: {text[:70]!r}")
    if reply.revision != deployment.status()["stable"]["revision"]:
        raise LateError(f"the answer names revision {reply.revision}, which is not the stable one")


def promote(address: str, deployment: Deployment, uri: str, texts: Sequence[str], say: Say) -> Promotion:
    """Changes the model under load and waits until the new one has all traffic.

    Raises:
        LateError: it was not promoted, or the routers' shares are not those of the steps.
    """
    deployment.manifest["spec"]["rollout"]["steps"] = list(PROMOTING)
    old = deployment.status()["stable"]["revision"]
    with _followed(deployment, say) as follower, _load(address, deployment, texts) as load:
        say(f"model.uri becomes {uri}, under {RATE:.0f} requests a second: {deployment.change_uri(uri).strip()}")
        new = deployment.wait_ready(BUILD_SECONDS + CANARY_SECONDS)["stable"]["revision"]
        time.sleep(AFTER_SECONDS)
    if new == old:
        raise LateError(f"revision {old} still serves\n{deployment.picture()}")
    seen = shares(load.records(), stages(follower.seen, follower.seen[-1].at))
    for share in seen:
        say(f"at {share.wanted} %: {share.seen:.1f} % of {share.requests} requests went to the canary")
    if [share.wanted for share in seen] != [step["weight"] for step in PROMOTING]:
        raise LateError(f"the routers were seen at {[s.wanted for s in seen]} % only\n{deployment.picture()}")
    wrong = [share for share in seen if abs(share.seen - share.wanted) > max(3.0, 3.0 * share.error)]
    if wrong:
        raise LateError(f"the routers did not follow the weights: {wrong}")
    return Promotion(new, seen, failed(load.records()))


def roll_back(address: str, deployment: Deployment, uri: str, texts: Sequence[str], say: Say) -> Rollback:
    """Changes the model to one that breaks an objective, under load, and waits until it has been taken back.

    Raises:
        LateError: it was not rejected, or a request still reached it afterwards.
    """
    spec = deployment.manifest["spec"]
    spec["rollout"]["steps"] = list(JUDGING)
    whole = spec["engine"]
    spec["engine"] = {**whole, **QUICK_BUILD}
    limit = latency_limit(deployment)
    with _followed(deployment, say), _load(address, deployment, texts) as load:
        said = deployment.change_uri(uri).strip()
        say(f"model.uri becomes {uri}, which is too slow; one engine is built, without evaluation: {said}")

        def rejection() -> dict[str, Any] | None:
            rejected = deployment.status().get("rejected", [])
            return next((entry for entry in rejected if entry["uri"] == uri), None)

        found = until("the canary's rejection", rejection, BUILD_SECONDS + CANARY_SECONDS, last=deployment.picture)
        time.sleep(AFTER_SECONDS)
    canary = found["revision"]
    seconds = rollback_seconds(load.records(), canary, lambda answer: answer.failed or answer.seconds > limit)
    if seconds is None:
        raise LateError(f"canary {canary} was rejected, but none of its answers was seen to be bad: {found['message']}")
    last = [answer.revision for answer in load.records()[-int(RATE * AFTER_SECONDS / 2) :]]
    if canary in last:
        raise LateError(
            f"canary {canary} still gets requests {AFTER_SECONDS:.0f} s after its rejection\n{deployment.picture()}"
        )
    if deployment.difference():
        raise LateError(f"the spec was changed: {deployment.difference()}")
    deployment.manifest["spec"]["engine"] = whole
    return Rollback(canary, seconds, found["message"], failed(load.records()))


def latency_limit(deployment: Deployment) -> float:
    """Seconds of the manifest's latency objective. Raises LookupError where it has none."""
    for objective in deployment.manifest["spec"]["slo"]["objectives"]:
        if "latency" in objective:
            return float(objective["latency"].removesuffix("ms")) / 1000
    raise LookupError("spec.slo.objectives of the example has no latency in milliseconds")


def _load(address: str, deployment: Deployment, texts: Sequence[str]) -> Load:
    longest = BUILD_SECONDS + CANARY_SECONDS + AFTER_SECONDS
    return Load(Plan(address, "grpc", deployment.name, tuple(texts), RATE, seconds=longest, allow_remote=True))


def _followed(deployment: Deployment, say: Say) -> contextlib.AbstractContextManager[Follower]:
    return Follower(deployment.kubectl, deployment.name, deployment.namespace, told=_teller(say))


def _teller(say: Say, clock: Callable[[], float] = time.monotonic) -> Callable[[Seen], None]:
    """Tells sentences; those that differ from the last by their figures only, now and then."""
    last = ("", 0.0)

    def tell(seen: Seen) -> None:
        nonlocal last
        words, now = re.sub(r"\d+(\.\d+)?", "#", seen.message), clock()
        if seen.message and (words != last[0] or now - last[1] >= FIGURES_SECONDS):
            last = (words, now)
            say(f"status: {seen.message}")

    return tell
