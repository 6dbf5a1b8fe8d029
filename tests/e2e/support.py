"""What the tests write in few words: a small deployment, a build's report, who is in the namespace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dev.common.deployment import Deployment
from dev.common.inference import Reply
from dev.common.kubectl import Kubectl, Object
from dev.load import Load, Plan
from tapchanger_serving.contract.names import OBSERVER_AUDIENCE
from tests.e2e.stores import BUCKET, MODEL_SECRET

NAMESPACE = "e2e"
"""Where most tests have their deployments: builds belong to a namespace, so that one for each test would build all anew."""

First = tuple[Deployment, list[str]]
"""The first model's deployment, and each sentence that it told on its way to serving."""
Make = Callable[..., Deployment]
"""Describes a deployment, as :func:`described` does, that goes with the test."""

MAX_TOKENS = 256
"""At which the models cut texts by default."""
BATCH = 25

SMALL = {"requests": {"cpu": "50m", "memory": "256Mi"}}


def described(kubectl: Kubectl, namespace: str, name: str, uri: str, **spec: Any) -> Deployment:
    """A small deployment of `pvc://models/URI`.

    `spec` adds fields to its spec; `task` names another task, `secret` what opens the model's store, and `poll` says how often
    that is asked.
    """
    model: Object = {
        "uri": uri if "://" in uri else f"pvc://models/{uri}",
        "task": spec.pop("task", "text-classification"),
    }
    if secret := spec.pop("secret", None):
        model["credentials"] = {"secretName": secret}
    if poll := spec.pop("poll", None):
        model["pollInterval"] = poll
    manifest = {
        "apiVersion": "tapchanger.dev/v1alpha1",
        "kind": "TransformerDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": model,
            "serving": {"template": {"resources": SMALL, "buildResources": SMALL}},
            "router": {"replicas": 1},
            **spec,
        },
    }
    return Deployment(kubectl, manifest)


@dataclass(frozen=True)
class Needed:
    """A deployment that keeps an engine for all tests that need it."""

    uri: str
    spec: dict[str, Any] = field(default_factory=dict)


ONE_CANDIDATE = {"runtime": "openvino", "precision": "fp32"}
"""Quick to build, where it does not matter which engine serves."""

LESSON = "e2e/lesson.csv"
"""What the student learns from, below the models folder."""
DISTILLED = {
    **ONE_CANDIDATE,
    "distill": {"dataset": {"uri": f"pvc://models/{LESSON}"}, "epochs": 2, "learningRate": 5e-4, "maxDuration": "1m"},
    "gates": {"parity": {"minAgreement": 0.7}},
}
LENIENT = {"objectives": [{"latency": "250ms", "target": 0.9}, {"availability": 0.99}]}
BRIEF = {"steps": [{"weight": 50}], "analysis": {"minRequests": 20, "timeout": "10m"}, "watch": "1s"}
"""For canaries that are not what a test is about: one step, and the predecessor goes soon."""

NEEDED = {
    "embedding": Needed(
        "minilm", {"task": "feature-extraction", "engine": {"runtime": "openvino", "precision": "int8"}}
    ),
    "next": Needed("moderation-v2"),
    "plain": Needed("moderation-v1", {"engine": ONE_CANDIDATE}),
    "flaky": Needed(f"s3://{BUCKET}/moderation-flaky", {"engine": ONE_CANDIDATE, "secret": MODEL_SECRET}),
    "slow": Needed("moderation-slow", {"engine": ONE_CANDIDATE}),
    "student": Needed("moderation-v1", {"engine": DISTILLED, "rollout": BRIEF, "slo": LENIENT}),
}
"""Built side by side while the first tests run, by the names of their deployments."""


def load_on(deployment: Deployment, texts: list[str], rate: float = 20.0) -> Load:
    """Steady requests to the deployment's routers while it is entered; they end with the test at the latest."""
    address, _ = deployment.address()
    return Load(Plan(address, "grpc", deployment.name, tuple(texts), rate, seconds=900.0, allow_remote=True))


def credential(kubectl: Kubectl, namespace: str) -> str:
    """A token by which the observer takes its bearer for a pod of `namespace`."""
    return kubectl("create", "token", "default", "-n", namespace, f"--audience={OBSERVER_AUDIENCE}").strip()


def report(kubectl: Kubectl, deployment: Deployment) -> dict[str, Any]:
    """The build's report, and in `chosen` the candidate that serves."""
    build = kubectl.get("eb", deployment.status()["target"]["build"], deployment.namespace)
    if build is None:
        raise LookupError(f"{deployment.name} has no build")
    found = build["status"]["report"]
    kind = (found["runtime"], found["precision"])
    return {**found, "chosen": next(c for c in found["candidates"] if (c["runtime"], c["precision"]) == kind)}


def in_batches(texts: list[str], ask: Callable[[list[str]], Reply]) -> dict[str, np.ndarray]:
    """Each output of all texts, asked for a few at a time."""
    replies = [ask(texts[start : start + BATCH]).outputs for start in range(0, len(texts), BATCH)]
    return {name: np.concatenate([reply[name] for reply in replies]) for name in replies[0]}
