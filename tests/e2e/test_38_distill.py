"""A student is trained on the cluster, and how far that is can be seen meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from dev.common.deployment import Deployment
from dev.common.inference import GrpcClient
from dev.common.kubectl import Kubectl
from tests.e2e.support import DISTILLED, in_batches

PHASES = ["BuildExporting", "BuildDistilling", "BuildMeasuring", "BuildReady"]


def test_a_student_is_trained_and_serves(
    kubectl: Kubectl, engines: dict[str, Deployment], texts: list[str], words: Callable[[str], None]
) -> None:
    deployment = engines["student"]
    build = kubectl.get("eb", deployment.status()["target"]["build"], deployment.namespace)
    assert build is not None
    status, report = build["status"], build["status"]["report"]
    assert status["engine"] == "openvino/fp32 (1-layer student)"
    assert report["distillation"]["askedEpochs"] == DISTILLED["distill"]["epochs"]
    assert report["distillation"]["trainedOn"] > 400
    uid = build["metadata"]["uid"]
    events = [e for e in kubectl.items("events", deployment.namespace) if e["involvedObject"]["uid"] == uid]
    told = {e["reason"]: e["firstTimestamp"] for e in events}
    assert sorted(PHASES, key=lambda phase: (told[phase], PHASES.index(phase))) == PHASES, told

    answers = {}
    for name in ("student", "plain"):
        with GrpcClient(engines[name].address()[0]) as client:
            answers[name] = in_batches(texts[:200], lambda batch, c=client, n=name: c.ask(n, batch))["label"]
    agreement = float((answers["student"] == answers["plain"]).mean())
    words(f"answers of the 1-layer student like its model's: {agreement:.3f} of 200 texts")
    assert agreement >= DISTILLED["gates"]["parity"]["minAgreement"] - 0.05
