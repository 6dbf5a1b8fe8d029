"""What is refused at admission: the answer names the field and what to write instead."""

from __future__ import annotations

from typing import Any

import pytest

from dev.common.kubectl import Kubectl
from dev.common.shell import CommandError


def refused(kubectl: Kubectl, spec: dict[str, Any]) -> str:
    """What the API server says to a TransformerDeployment with `spec`, which it must not take."""
    manifest = {
        "apiVersion": "tapchanger.dev/v1alpha1",
        "kind": "TransformerDeployment",
        "metadata": {"name": "refused", "namespace": "default"},
        "spec": spec,
    }
    with pytest.raises(CommandError) as refusal:
        kubectl.apply(manifest)
    assert kubectl.get("tdep", "refused", "default") is None
    return refusal.value.said


MODEL = {"uri": "pvc://models/moderation-v1", "task": "text-classification"}
B: dict[str, Any] = {"name": "b", "weight": 60, "model": {"uri": "pvc://models/moderation-v2"}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"model": MODEL, "rollot": {}}, ["unknown field", "spec.rollot"]),
        ({"model": MODEL, "engine": {"runtimes": "auto"}}, ["unknown field", "spec.engine.runtimes"]),
        ({"model": {"task": "text-classification"}}, ["spec.model.uri", "Required"]),
        ({"model": {**MODEL, "uri": "ftp://host/model"}}, ["spec.model.uri", "pvc://CLAIM/path"]),
        ({"model": {**MODEL, "task": "summarize"}}, ["spec.model.task", "text-classification"]),
        (
            {"model": MODEL, "rollout": {"steps": [{"weight": 50}, {"weight": 5}]}},
            ["spec.rollout.steps", "weights must rise from step to step, for example 5, 25, 50"],
        ),
        ({"model": MODEL, "rollout": {"steps": [{"weight": 5}, {"weight": 5}]}}, ["each step must be larger"]),
        ({"model": MODEL, "rollout": {"steps": [{"weight": 100}]}}, ["spec.rollout.steps[0].weight", "99"]),
        ({"model": MODEL, "slo": {"objectives": [{"latency": "50ms"}]}}, ["spec.slo.objectives[0]", "target"]),
        ({"model": MODEL, "slo": {"window": "an hour"}}, ["spec.slo.window"]),
        (
            {"model": MODEL, "slo": {"objectives": [{"accuracy": 0.9, "availability": 0.9}]}},
            ["spec.slo.objectives[0]", "an objective is one of"],
        ),
        (
            {"model": MODEL, "slo": {"objectives": [{"availability": 0.9, "slice": "source=tweets"}]}},
            ["slice and minLabels belong to accuracy"],
        ),
        (
            {"model": {**MODEL, "task": "feature-extraction"}, "slo": {"objectives": [{"accuracy": 0.9}]}},
            ["accuracy needs the task text-classification"],
        ),
        (
            {"model": MODEL, "slo": {"objectives": [{"accuracy": 0.9}]}, "rollout": {"mirror": 10}},
            ["rollout.mirror needs an objective of latency or availability too"],
        ),
        (
            {"model": MODEL, "engine": {"runtime": "onnxruntime", "precision": "fp16"}},
            ["spec.engine", "need runtime tensorrt or auto"],
        ),
        (
            {"model": MODEL, "engine": {"distill": {"dataset": {"uri": "pvc://a/b.csv"}, "maxDuration": "25h"}}},
            ["spec.engine.distill", "write a time from 1s to 24h"],
        ),
        ({"model": MODEL, "engine": {"distill": {"layers": 3}}}, ["spec.engine.distill.dataset", "Required"]),
        ({"model": MODEL, "variants": [B, {**B, "weight": 1}]}, ["spec.variants", "each needs its own"]),
        ({"model": MODEL, "variants": [B, {**B, "name": "c"}]}, ["spec.variants", "add up to more than 99"]),
        ({"model": MODEL, "variants": [{**B, "name": "control"}]}, ["spec.variants[0].name", "write another name"]),
        ({"model": MODEL, "variants": [{"name": "b", "weight": 1}]}, ["spec.variants[0]", "write model: {uri:"]),
        (
            {"model": MODEL, "variants": [{**B, "model": {**B["model"], "task": "feature-extraction"}}]},
            ["leave out variants[].model.task"],
        ),
        ({"model": MODEL, "experiment": {"metric": "latency"}}, ["experiment needs variants to compare"]),
        (
            {"model": MODEL, "variants": [B], "experiment": {"stickyBy": {"header": "X-User"}}},
            ["spec.experiment.stickyBy.header", "in lower case, such as x-user-id"],
        ),
        (
            {"model": MODEL, "variants": [B], "experiment": {}, "slo": {"objectives": [{"availability": 0.99}]}},
            ["experiment.metric latency needs a latency objective"],
        ),
        (
            {
                "model": MODEL,
                "variants": [B],
                "experiment": {"stickyBy": {"header": "x-user-id"}},
                "router": {"type": "GatewayAPI", "parentRefs": [{"name": "shared"}]},
            },
            ["experiment.stickyBy needs router.type Envoy"],
        ),
        ({"model": MODEL, "capture": {}}, ["spec.capture.destination", "Required"]),
        (
            {"model": MODEL, "capture": {"destination": {"uri": "s3://captures/texts"}}},
            ["spec.capture.destination.encryption", "Required"],
        ),
        (
            {"model": MODEL, "capture": {"destination": {"uri": "s3://captures", "encryption": {"type": "None"}}}},
            ["spec.capture.destination.uri", "s3://BUCKET/PREFIX or pvc://CLAIM/FOLDER"],
        ),
        (
            {"model": MODEL, "capture": {"destination": {"uri": "pvc://captures/x", "encryption": {"type": "SSE-S3"}}}},
            ["spec.capture.destination", "only an S3 store encrypts by itself"],
        ),
        (
            {"model": MODEL, "capture": {"destination": {"uri": "s3://captures/x", "encryption": {"type": "Age"}}}},
            ["spec.capture.destination.encryption", "type Age and recipients go together"],
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_a_bad_spec_is_refused_with_its_field_and_a_remedy(
    stack: Any, kubectl: Kubectl, spec: dict[str, Any], expected: list[str]
) -> None:
    said = refused(kubectl, spec)
    missing = [words for words in expected if words not in said]
    assert not missing, f"{missing} not in: {said}"


def test_a_field_that_has_no_meaning_is_refused_by_the_server_and_not_only_by_kubectl(kubectl: Kubectl) -> None:
    manifest = '{"apiVersion":"tapchanger.dev/v1alpha1","kind":"TransformerDeployment","metadata":{"name":"refused",\
"namespace":"default"},"spec":{"model":{"uri":"pvc://models/x","task":"text-classification"},"rollot":1}}'
    with pytest.raises(CommandError) as refusal:
        kubectl("create", "--validate=strict", "-f", "-", text=manifest)
    assert 'unknown field "spec.rollot"' in refusal.value.said
