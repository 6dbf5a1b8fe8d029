"""Values that the operator's tests share: an owner, settings, specs, and what inspecting and building answer."""

from __future__ import annotations

from typing import Any

from tapchanger_operator.api.spec import TransformerDeploymentSpec
from tapchanger_operator.names import Owner
from tapchanger_operator.settings import Images, Settings, Store
from tapchanger_serving.contract.messages import BuildReport, Candidate, GateResult, Hardware, Inspection, Timing

OWNER = Owner("TransformerDeployment", "moderation", "team-a", "11111111-2222-3333-4444-555555555555")
IMAGES = Images(
    builder="registry.test/builder@sha256:" + "b" * 64,
    server="registry.test/server@sha256:" + "5" * 64,
    router="registry.test/router@sha256:" + "e" * 64,
)
SETTINGS = Settings(
    namespace="tapchanger-system",
    identity="operator-0",
    images=IMAGES,
    store=Store(),
    observer_host="tapchanger-observer.tapchanger-system.svc",
)
HARDWARE = Hardware(arch="amd64", instruction_sets=("amx_bf16", "amx_tile", "avx2", "avx512f"))
MODEL = {"uri": "pvc://models/moderation", "task": "text-classification"}

FULL_SPEC: dict[str, Any] = {
    "model": {"uri": "pvc://models/moderation@sha256:" + "a" * 64, "task": "text-classification"},
    "engine": {
        "runtime": "openvino",
        "precision": "int8",
        "shapes": {"maxBatchSize": 16, "maxTokens": 128},
        "gates": {
            "parity": {"minAgreement": 0.99},
            "evaluation": {
                "dataset": {"uri": "pvc://data.sets/test.csv", "slices": ["source"]},
                "metrics": [
                    {"name": "accuracy", "min": 0.9, "maxDrop": 0.01},
                    {"name": "accuracy", "slice": "*", "min": 0.8},
                ],
            },
        },
    },
    "serving": {
        "replicas": {"min": 3},
        "batching": {"maxQueueDelay": "2ms"},
        "template": {
            "labels": {"team": "a"},
            "annotations": {"note": "for people"},
            "resources": {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
            "buildResources": {"requests": {"cpu": "2", "memory": "4Gi"}},
            "nodeSelector": {"pool": "cpu"},
            "tolerations": [{"key": "pool", "operator": "Exists"}],
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}
                        ]
                    }
                }
            },
            "volumes": [{"name": "cache", "emptyDir": {}}],
            "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
            "imagePullSecrets": [{"name": "registry"}],
            "serviceAccountName": "moderation",
            "priorityClassName": "high",
            "runtimeClassName": "gvisor",
            "terminationGracePeriodSeconds": 90,
        },
    },
    "slo": {"objectives": [{"latency": "50ms", "target": 0.99}, {"availability": 0.999}]},
    "router": {"replicas": 3, "resources": {"requests": {"cpu": "1"}}},
}


def spec(**parts: Any) -> TransformerDeploymentSpec:
    """A spec with the sample model; `parts` are its other fields as a manifest has them."""
    return TransformerDeploymentSpec.model_validate({"model": MODEL, **parts})


def full_spec() -> TransformerDeploymentSpec:
    """A spec that sets every field that shapes an object."""
    return TransformerDeploymentSpec.model_validate(FULL_SPEC)


def inspection(digest: str = "sha256:" + "a" * 64) -> Inspection:
    """What the inspecting Job finds."""
    return Inspection(
        digest=digest,
        architecture="BertForSequenceClassification",
        labels=("safe", "unsafe"),
        max_tokens=512,
        parameters=4_400_000,
        size_bytes=17_600_000,
        hardware=HARDWARE,
    )


def report(artifact: str = "sha256:" + "c" * 64) -> BuildReport:
    """What a finished build says."""
    chosen = Candidate(
        runtime="openvino", precision="bf16", texts_per_second=600, p50_ms=12.5, agreement=0.999, passed=True
    )
    return BuildReport(
        artifact=artifact,
        size_bytes=9_000_000,
        runtime="openvino",
        precision="bf16",
        why="openvino/bf16 is the fastest of 4 that pass: 600 texts/s",
        speedup=3.01,
        torch_texts_per_second=199,
        candidates=(chosen,),
        gates=(GateResult(name="parity", value=0.999, bound=">= 0.995", passed=True),),
        surface=(Timing(batch=1, tokens=64, p50_ms=2.0, p99_ms=3.0),),
        compared_texts=1000,
        seconds=60,
    )
