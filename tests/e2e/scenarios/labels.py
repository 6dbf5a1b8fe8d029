"""An application asks and sends labels later, while a canary comes whose answers are wrong."""

from __future__ import annotations

import threading
import time
import urllib.error
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from dev.common.deployment import Deployment
from dev.common.stack import SYSTEM
from dev.common.waiting import until
from examples.feedback import feedback
from tapchanger_serving.contract.names import OBSERVER_API_PORT
from tests.e2e.scenarios.beside import Scene
from tests.e2e.support import ONE_CANDIDATE, credential

RATE = 15.0
AFTER_SECONDS = 3.0
"""How long after an answer its label is known."""
OBJECTIVES = [{"accuracy": 0.85, "minLabels": 60}, {"availability": 0.99}]


@dataclass(eq=False)
class Application(threading.Thread):
    """Asks about one text after the other, and sends the labels of what was answered a while ago."""

    url: str
    observer: str
    token: str
    namespace: str
    name_: str
    labelled: list[tuple[str, str]]
    counted: int = 0
    refused: list[dict[str, Any]] = field(default_factory=list)
    revisions: list[tuple[float, str | None]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.ending = threading.Event()

    def run(self) -> None:
        known: deque[tuple[float, dict[str, Any]]] = deque()
        number = 0
        while not self.ending.wait(1 / RATE):
            text, label = self.labelled[number % len(self.labelled)]
            number += 1
            try:
                answer = feedback.ask(self.url, self.name_, text)
            except urllib.error.URLError as problem:
                self.failures.append(str(problem))
                continue
            self.revisions.append((time.time(), answer.revision))
            entry = feedback.entry(
                self.namespace, self.name_, answer, label, {"length": "short" if len(text) < 40 else "long"}
            )
            del entry["answered"], entry["confidence"]  # the observer knows them from the server's span
            known.append((time.time(), entry))
            if len(known) > 20 and time.time() - known[19][0] > AFTER_SECONDS:
                told = feedback.send(self.observer, self.token, [known.popleft()[1] for _ in range(20)])
                self.counted += told["counted"]
                self.refused += told["refused"]


@dataclass(frozen=True)
class Told:
    """What was seen before the bad canary, and after it."""

    deployment: Deployment
    application: Application
    quality: dict[str, Any]
    status: dict[str, Any]
    old: str
    seconds: float


def run(scene: Scene) -> Told:
    kubectl, space = scene.kubectl, scene.space
    deployment = scene.described(
        "labelled",
        "moderation-v1",
        engine=ONE_CANDIDATE,
        slo={"objectives": OBJECTIVES},
        rollout={"steps": [{"weight": 40}], "analysis": {"minRequests": 200, "timeout": "10m"}, "watch": "30s"},
    )
    deployment.apply()
    old = deployment.wait_ready(180)["stable"]["revision"]
    service = kubectl.get("service", "tapchanger-observer", SYSTEM)
    assert service is not None
    observer = f"http://{service['spec']['clusterIP']}:{OBSERVER_API_PORT}"
    token = credential(kubectl, space)
    application = Application(deployment.address()[1], observer, token, space, "labelled", scene.labelled)
    application.start()
    try:
        quality = until(
            "a hundred labels in status.quality",
            lambda: found if (found := deployment.status().get("quality", {})).get("labelled", 0) >= 100 else None,
            120,
            last=deployment.picture,
        )
        deployment.change_uri("pvc://models/moderation-wrong")
        until(
            "the canary's first request",
            lambda: deployment.status().get("canary", {}).get("since"),
            400,
            last=deployment.picture,
        )
        began = time.time()
        status = until(
            "a rejection",
            lambda: (found := deployment.status()).get("rejected") and found,
            300,
            last=deployment.picture,
        )
        seconds = time.time() - began
        time.sleep(5.0)
    finally:
        application.ending.set()
        application.join(60)
    return Told(deployment, application, quality, status, old, seconds)
