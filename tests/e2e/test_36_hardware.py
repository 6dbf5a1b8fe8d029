"""What the node's labels say of its hardware decides where servers run, and a node that lacks something is told of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dev.common.deployment import Deployment
from dev.common.kubectl import Kubectl, condition
from tests.e2e.support import ONE_CANDIDATE, Make

CPUID = "feature.node.kubernetes.io/cpu-cpuid."
LABELS = {
    "avx2": "AVX2", "avx512f": "AVX512F", "avx512_vnni": "AVX512VNNI", "avx512_bf16": "AVX512BF16", "avx_vnni": "AVXVNNI",
    "amx_tile": "AMXTILE", "amx_int8": "AMXINT8", "amx_bf16": "AMXBF16",
    "asimd": "ASIMD", "sve": "SVE",
}  # fmt: skip
"""By the kernel's names, as node feature discovery writes them."""
BASE = ("avx2", "asimd")

Label = Callable[[str, str | None], None]


@pytest.fixture
def label(kubectl: Kubectl) -> Iterator[Label]:
    """Sets a label of the one node, or removes it (None); in the end the node has the labels that it had."""
    (node,) = kubectl.items("node", None)
    name, touched = node["metadata"]["name"], set()

    def change(key: str, value: str | None) -> None:
        touched.add(key)
        kubectl("label", "node", name, f"{key}-" if value is None else f"{key}={value}", "--overwrite")

    yield change
    for key in touched:
        change(key, None)
    assert kubectl.items("node", None)[0]["metadata"]["labels"] == node["metadata"]["labels"]


def servers(deployment: Deployment) -> list[Any]:
    selector = f"tapchanger.dev/deployment={deployment.name},app.kubernetes.io/component=server"
    return deployment.kubectl.items("pod", deployment.namespace, selector)


def required(pod: dict[str, Any]) -> list[set[tuple[str, str]]]:
    """(label, operator) of each node selector term of a pod."""
    terms = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return [{(e["key"], e["operator"]) for e in term["matchExpressions"]} for term in terms["nodeSelectorTerms"]]


def test_servers_wait_for_a_node_that_has_what_their_engine_was_built_for(
    begun: dict[str, Deployment], make: Make, label: Label
) -> None:
    plain = begun["plain"].wait_ready(600)
    found = plain["model"]["inspection"]["hardware"]["instructionSets"]
    sets = [name for name in found if name in LABELS]
    lost = next((name for name in sets if name not in BASE), None)
    if lost is None:
        pytest.skip(f"this machine has nothing to lack: {found}")
    for name in sets:
        if name != lost:
            label(f"{CPUID}{LABELS[name]}", "true")

    deployment = make("labelled", "moderation-v1", engine=ONE_CANDIDATE)
    deployment.apply()
    status = deployment.wait_condition("Stalled", "True", 120)
    stalled = condition({"status": status}, "Stalled")
    assert stalled["reason"] == "EngineIncompatible", stalled
    assert f"of the one node that the template allows, 1 lacks {lost}" in stalled["message"]
    assert status["target"]["build"] == plain["target"]["build"]
    (pod,) = servers(deployment)
    assert "nodeName" not in pod["spec"]
    labelled, unlabelled = required(pod)
    assert {(f"{CPUID}{LABELS[name]}", "In") for name in sets} <= labelled
    assert [key for key, operator in unlabelled if operator == "DoesNotExist"] in ([f"{CPUID}AVX2"], [f"{CPUID}ASIMD"])

    label(f"{CPUID}{LABELS[lost]}", "true")
    ready = deployment.wait_condition("Ready", "True", 90)
    assert condition({"status": ready}, "Stalled")["status"] == "False"
    assert [pod["spec"]["nodeName"] for pod in servers(deployment)]
    assert condition(begun["plain"].body(), "Ready")["status"] == "True"
