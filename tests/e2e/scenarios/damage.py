"""An artifact that is damaged in the store while others serve it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.common.deployment import Deployment
from dev.common.inference import GrpcClient
from dev.common.kubectl import Kubectl
from dev.common.waiting import until
from dev.load import Records
from tapchanger_serving.contract.names import EXIT_ARTIFACT_DAMAGED
from tapchanger_serving.contract.stored import artifact_path
from tests.e2e.scenarios.beside import Scene
from tests.e2e.support import BATCH, load_on


def volume(scene: Scene) -> Path:
    """The folder behind the namespace's claim."""
    claim = scene.kubectl.get("persistentvolumeclaim", "tapchanger-artifacts", scene.space)
    assert claim is not None
    found = scene.kubectl.get("persistentvolume", claim["spec"]["volumeName"])
    assert found is not None
    return Path((found["spec"].get("hostPath") or found["spec"]["local"])["path"])


def artifact(kubectl: Kubectl, deployment: Deployment) -> str:
    """The digest that its build has in the store."""
    build = kubectl.get("eb", deployment.status()["target"]["build"], deployment.namespace)
    assert build is not None
    return str(build["status"]["report"]["artifact"])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def refusals(deployment: Deployment) -> set[int]:
    """Exit codes of init containers that refused."""
    pods = deployment.kubectl.items("pods", deployment.namespace, f"tapchanger.dev/deployment={deployment.name}")
    statuses = [status for pod in pods for status in pod["status"].get("initContainerStatuses", [])]
    states = [state for status in statuses for state in (status["state"], status.get("lastState", {}))]
    return {state["terminated"]["exitCode"] for state in states if "terminated" in state} - {0}


@dataclass(frozen=True)
class Lost:
    """An artifact that a damaged one has replaced, and what was seen of it.

    `labels` are the answers to the same texts before it was damaged, while servers refused it, and from what was built again.
    """

    artifact: str
    volume: Path
    replacement: str
    before: dict[str, Any]
    after: dict[str, Any]
    labels: tuple[list[str], list[str], list[str]]
    answers: Records
    told: set[str]
    """The builds that an Event said it of."""


def run(scene: Scene) -> Lost:
    """The student's artifact is damaged while servers start; other texts make another student."""
    kubectl, texts, place, deployment = scene.kubectl, scene.texts, volume(scene), scene.engines["student"]
    before, digest = deployment.status(), artifact(kubectl, deployment)
    flip(place / artifact_path(digest) / "model.bin")
    scene.lesson(500)

    def replaced() -> bool:
        stable = deployment.status().get("stable", {})
        return stable.get("revision") not in (None, before["stable"]["revision"])

    with GrpcClient(deployment.address()[0]) as client:

        def labels() -> list[str]:
            return [str(label) for label in client.ask("student", texts[:BATCH]).outputs["label"].tolist()]

        expected = labels()
        with load_on(deployment, texts) as load:
            deployment.manifest["spec"]["serving"]["replicas"] = {"min": 2}
            deployment.apply()
            until("a server that refuses", lambda: refusals(deployment) == {EXIT_ARTIFACT_DAMAGED}, 120)
            meanwhile = labels()
            until("what was built again to be promoted", replaced, 400, last=deployment.picture)
            after = deployment.wait_ready(60)
        again = labels()
    events = [event for event in kubectl.items("events", scene.space) if event["reason"] == "ArtifactDamaged"]
    told = {e["involvedObject"]["name"] for e in events if e["involvedObject"]["kind"] == "EngineBuild"}
    lost = Lost(
        artifact=digest,
        volume=place,
        replacement=artifact(kubectl, deployment),
        before=before,
        after=after,
        labels=(expected, meanwhile, again),
        answers=load.records(),
        told=told,
    )
    deployment.manifest["spec"]["serving"]["replicas"] = {"min": 1}
    deployment.apply()
    return lost
