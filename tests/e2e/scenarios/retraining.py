"""Traffic that changes for good, and a model that is trained anew on what users send now."""

from __future__ import annotations

import csv
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.common.deployment import Deployment
from dev.common.inference import GrpcClient
from dev.common.kubectl import Object
from dev.common.stack import Stack
from dev.common.waiting import until
from examples.moderation import train
from tests.bench.drift.texts import corpora
from tests.e2e.scenarios.beside import Scene
from tests.e2e.support import LENIENT, ONE_CANDIDATE, in_batches, load_on

NAME = "retrained"
RATE = 12.0
FOLDER = NAME
QUIET_SECONDS = 40.0
EXAMPLE = Path(train.__file__).parents[1] / "retraining" / "retrain.py"


@contextmanager
def live(stack: Stack, tweets: list[str]) -> Iterator[None]:
    """A folder of the claim `models` that a run may write to: the checkpoint behind a link, and labelled texts."""
    folder = stack.models / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(stack.models / "moderation-v1", folder / "first")
    (folder / "current").symlink_to("first")
    old = train.read_split("train")[::6]
    write(folder / "old.csv", [(example.text, train.LABELS[example.label]) for example in old])
    write(folder / "new.csv", [(text, "safe") for text in tweets[: len(tweets) // 2 : 2]])
    folder.chmod(0o777)  # a host's folder has no group of the pod's
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def retraining(image: str) -> dict[str, Any]:
    """As examples/retraining has it, with less time between runs."""
    mounts = [
        {"name": "trainer", "mountPath": "/trainer", "readOnly": True},
        {"name": "models", "mountPath": "/claims/models"},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    data = f"/claims/models/{FOLDER}"
    trainer = {
        "name": "train",
        "image": image,
        "command": ["python3", "/trainer/retrain.py"],
        "args": ["--new", f"{data}/new.csv", "--old", f"{data}/old.csv"],
        "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}},
        "securityContext": {"readOnlyRootFilesystem": True},
        "volumeMounts": mounts,
    }
    volumes = [
        {"name": "trainer", "configMap": {"name": "moderation-trainer"}},
        {"name": "models", "persistentVolumeClaim": {"claimName": "models"}},
        {"name": "tmp", "emptyDir": {}},
    ]
    user = {"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532}
    spec = {"securityContext": user, "containers": [trainer], "volumes": volumes}
    return {"minInterval": "1h", "timeout": "20m", "job": {"template": {"spec": spec}}}


@dataclass(frozen=True)
class Retrained:
    """A run from drift to its end: the status before and after it, its Job and build, and what was told of it.

    `flagged` is the share of harmless texts that were taken for attacks before and after; `begun` and `took` are seconds since
    the texts changed, until the run began and until its content served.
    """

    first: dict[str, Any]
    drifted: dict[str, Any]
    started: dict[str, Any]
    job: Object
    run: dict[str, Any]
    build: Object
    status: dict[str, Any]
    events: list[str]
    flagged: tuple[float, float]
    begun: float
    took: float


def run(scene: Scene) -> Retrained:
    # Real texts of another kind than the chat prompts that the model has learned from.
    tweets = corpora()["tweets"]
    with live(scene.stack, tweets):
        return retrained(scene, tweets)


def retrained(scene: Scene, tweets: list[str]) -> Retrained:
    kubectl, space = scene.kubectl, scene.space
    deployment = scene.described(
        NAME,
        f"{FOLDER}/current",
        engine={
            **ONE_CANDIDATE,
            "gates": {
                "evaluation": {
                    "dataset": {"uri": "pvc://models/data/moderation/evaluation.csv"},
                    "metrics": [{"name": "accuracy", "min": 0.9}],
                }
            },
        },
        drift={"reference": {"firstRequests": 150}, "falseAlarmEvery": "10m", "action": "Retrain"},
        slo=LENIENT,
        rollout={"steps": [{"weight": 50}], "watch": "10s", "analysis": {"minRequests": 50}},
        retraining=retraining(scene.stack.images["builder"]),
    )
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "moderation-trainer", "namespace": space},
            "data": {"retrain.py": EXAMPLE.read_text(), "train.py": Path(train.__file__).read_text()},
        }
    )
    deployment.apply()
    first = deployment.wait_ready(300)
    with load_on(deployment, scene.texts[:900], RATE):
        time.sleep(QUIET_SECONDS)
    unseen = tweets[len(tweets) // 2 :]
    flagged = share_unsafe(deployment, unseen[:200])
    changed = time.time()
    with load_on(deployment, unseen, RATE):
        started = until("a run", lambda: runs(deployment, under_way=True), 180, last=deployment.picture)[0]
        begun = time.time() - changed
        drifted = deployment.status()
        name = f"{NAME}-retrain-{started['name']}"
        job = until("its Job", lambda: kubectl.get("job", name, space), 30, last=deployment.picture)
        ended = until("its end", lambda: runs(deployment, under_way=False), 900, last=deployment.picture)[-1]
    took = time.time() - changed
    assert ended["outcome"] == "Promoted", ended
    build = kubectl.get("eb", ended["build"], space)
    assert build is not None
    told = [e["reason"] for e in kubectl.items("events", space) if e["involvedObject"]["name"] == NAME]
    after = share_unsafe(deployment, unseen[:200])
    status = deployment.status()
    kubectl.delete("tdep", NAME, space)
    return Retrained(first, drifted, started, job, ended, build, status, told, (flagged, after), begun, took)


def runs(deployment: Deployment, *, under_way: bool) -> list[dict[str, Any]] | None:
    """The run under way, or those that ended; None where there is none."""
    found = deployment.status().get("retraining", {})
    if under_way:
        return [found["run"]] if "run" in found else None
    return found.get("runs") or None


def share_unsafe(deployment: Deployment, texts: list[str]) -> float:
    """Share of harmless texts that the model takes for attacks."""
    address, _ = deployment.address()
    with GrpcClient(address) as client:
        labels = in_batches(texts, lambda batch: client.ask(deployment.name, batch))["label"]
    return float((labels == "unsafe").mean())
