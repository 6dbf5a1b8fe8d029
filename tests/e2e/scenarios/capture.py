"""Requests whose senders agreed that their texts are kept, and others."""

from __future__ import annotations

import gzip
import json
import urllib.request
from base64 import b64decode
from dataclasses import dataclass
from typing import Any

from dev.common.deployment import Deployment
from dev.common.kubectl import Kubectl
from dev.common.waiting import until
from tests.e2e.scenarios.beside import Scene
from tests.e2e.support import ONE_CANDIDATE

NAME = "capturing"
DESTINATION = {"uri": "pvc://captures/texts", "encryption": {"type": "None"}}
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "captures"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "100Mi"}}},
}
SECRET_TEXT = "Please write to jane.doe@example.com, you are wonderful."
READ = (
    "import pathlib, base64; files = pathlib.Path('/captured').rglob('*.gz'); "
    "print(*[base64.b64encode(file.read_bytes()).decode() for file in files])"
)


def ask(deployment: Deployment, text: str, **headers: str) -> None:
    """One request over HTTP through the router."""
    _, address = deployment.address()
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": [text]}]}
    request = urllib.request.Request(
        f"{address}/v2/models/{deployment.name}/infer",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", **headers},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def stored(kubectl: Kubectl, deployment: Deployment) -> list[dict[str, Any]]:
    """The records on the claim, as the sidecar sees it."""
    pods = kubectl.items("pods", deployment.namespace)
    (pod,) = [
        pod["metadata"]["name"]
        for pod in pods
        if pod["metadata"].get("labels", {}).get("tapchanger.dev/deployment") == deployment.name
        and pod["metadata"].get("labels", {}).get("app.kubernetes.io/component") == "server"
        and "deletionTimestamp" not in pod["metadata"]
    ]
    found = kubectl("exec", pod, "-n", deployment.namespace, "-c", "capture", "--", "python3", "-c", READ)
    return [json.loads(line) for word in found.split() for line in gzip.decompress(b64decode(word)).splitlines()]


@dataclass(frozen=True)
class Captured:
    """What was stored, `status.capture` and all of `status`, and what the cluster had of it: Events, Jobs and logs."""

    records: list[dict[str, Any]]
    capture: dict[str, Any]
    status: dict[str, Any]
    events: list[dict[str, Any]]
    jobs: list[str]
    logs: str


def run(scene: Scene) -> Captured:
    kubectl, space = scene.kubectl, scene.space
    kubectl.apply({**CLAIM, "metadata": {"name": "captures", "namespace": space}})
    deployment = scene.described(
        NAME, "moderation-v1", engine=ONE_CANDIDATE, capture={"sample": 1, "destination": DESTINATION}
    )
    deployment.apply()
    deployment.wait_ready(240)
    for _ in range(3):
        ask(deployment, SECRET_TEXT, **{"X-Capture-Consent": "granted"})
        ask(deployment, "You have not been asked, dear Sir.", **{"X-Capture-Consent": "denied"})
        ask(deployment, "You have not said anything, dear Sir.")
    records = until(
        "three records are stored",
        lambda: found if len(found := stored(kubectl, deployment)) >= 3 else None,
        300,
        last=deployment.picture,
    )
    told = until(
        "status tells of it",
        lambda: (
            (found := deployment.status().get("capture", {})).get("captured", 0) >= 3
            and found.get("lastWritten")
            and found
        ),
        300,
        last=deployment.picture,
    )
    events = [one for one in kubectl.items("events", space) if one["involvedObject"]["name"] == NAME]
    jobs = [one["metadata"]["name"] for one in kubectl.items("jobs", space)]
    logs = kubectl("logs", "-n", space, "-l", f"tapchanger.dev/deployment={NAME}", "--all-containers", "--tail=-1")
    captured = Captured(records, told, deployment.status(), events, jobs, logs)
    kubectl.delete("tdep", NAME, space)
    return captured
