"""A finished build with every kind of figure, for the page and the card."""

from __future__ import annotations

from typing import Any

from tapchanger_serving.build.pages import Built
from tapchanger_serving.contract.artifact import Artifact, ArtifactFile
from tapchanger_serving.contract.distill import Distillation, Epoch
from tapchanger_serving.contract.gates import DatasetSource, EvaluationGate, Gates, MetricGate
from tapchanger_serving.contract.messages import BuildReport, BuildRequest, Candidate, GateResult, Hardware, Timing

HARDWARE = Hardware(arch="amd64", instruction_sets=("amx_bf16", "avx2", "avx512_vnni"))
WHY = (
    "openvino bf16 gave 636 texts/s, 3.31 times PyTorch's 192, with label agreement 0.9990; "
    "faster, but failed a gate: openvino int8 (812 texts/s, label agreement 0.9810)"
)
CANDIDATES = (
    Candidate(runtime="onnxruntime", precision="fp32", texts_per_second=240.2, p50_ms=7.1, memory_mib=92.5, agreement=1.0,
              max_difference=0.000012, passed=True),
    Candidate(runtime="openvino", precision="int8", texts_per_second=812.4, p50_ms=2.1, memory_mib=31.0, agreement=0.981,
              max_difference=0.31),
    Candidate(runtime="openvino", precision="bf16", texts_per_second=636.0, p50_ms=2.7, memory_mib=88.5, agreement=0.999,
              max_difference=0.012, passed=True),
    Candidate(runtime="tensorrt", precision="fp16", error="RuntimeError: CUDA driver version is insufficient"),
)  # fmt: skip
GATES = (
    GateResult(name="parity agreement", value=0.999, bound="≥ 0.995", passed=True),
    GateResult(name="accuracy", value=0.942123, bound="≥ 0.9", passed=True, detail="2101 rows"),
    GateResult(name="accuracy[source=forum]", value=0.87, bound="≥ 0.8", passed=True, detail="301 rows"),
    GateResult(name="accuracy drop", value=-0.001, bound="≤ 0.01", passed=True, detail="PyTorch has 0.9411; 2101 rows"),
    GateResult(name="ece", bound="≤ 0.05", passed=False, detail="the data has no labels"),
)
SURFACE = tuple(
    Timing(batch=batch, tokens=tokens, p50_ms=batch * tokens / 20, p99_ms=batch * tokens / 14)
    for batch, tokens in ((1, 16), (1, 64), (8, 16), (8, 64), (8, 256), (32, 64))
)
SECTIONS: dict[str, Any] = {
    "calibration": {
        "rows": 1050,
        "before": {
            "ece": 0.081, "brier": 0.12,
            "bins": [{"count": 40, "confidence": 0.63, "accuracy": 0.55}, {"count": 900, "confidence": 0.97, "accuracy": 0.9}],
        },
        "temperature": 1.7,
        "after": {"ece": 0.021, "brier": 0.09, "bins": [{"count": 940, "confidence": 0.9, "accuracy": 0.89}]},
    },
    "robustness": [{"kind": "typos", "texts": 200, "engine": 0.07, "reference": 0.065, "examples": [4, 19]}],
    "data": {
        "rows": 2101,
        "duplicates": {"share": 0.01, "count": 21, "examples": [7]},
        "nearDuplicates": {"share": 0.0, "count": 0},
        "personalData": [{"kind": "email", "count": 3, "examples": [11]}],
        "personalRows": {"share": 0.0014, "count": 3},
        "classes": [{"label": "calm", "count": 1500, "share": 0.714}],
    },
}  # fmt: skip
"""Sections that a report may have, in its wire form."""

DISTILLATION = Distillation(
    teacher_layers=6, teacher_parameters=22_700_000, layers=(0, 2, 5), parameters=17_400_000, rows=12_000, in_evaluation=41,
    duplicates=57, held_out=1000, trained_on=10_902, asked_epochs=3, best=2, stopped_by_budget=True, seconds=1830.5,
    epochs=(
        Epoch(number=0, held_out_loss=1.41899, agreement=0.61, seconds=9.1),
        Epoch(number=1, train_loss=0.41, held_out_loss=0.081, agreement=0.968, seconds=880.2),
        Epoch(number=2, train_loss=0.07, held_out_loss=0.0579, agreement=0.9812, seconds=890.2),
        Epoch(number=3, train_loss=0.05, held_out_loss=0.0581, agreement=0.981, seconds=51.0, complete=False),
    ),
)  # fmt: skip


def with_student() -> Built:
    """A build that chose an engine of a student."""
    student = Candidate(
        runtime="openvino", precision="bf16", student_layers=3, texts_per_second=1180.5, p50_ms=1.4, memory_mib=60.0,
        agreement=0.996, max_difference=0.09, passed=True,
    )  # fmt: skip
    why = (
        "openvino bf16 of the 3-layer student gave 1180 texts/s, 6.15 times PyTorch's 192, with label agreement 0.9960"
    )
    found = built(student_layers=3, candidates=(*CANDIDATES, student), why=why, speedup=6.15, distillation=DISTILLATION)
    asked = request(distill={"dataset": {"uri": "pvc://texts/all.csv"}, "layers": 3})
    return Built(asked, found.manifest, found.report)


def built(**report: Any) -> Built:
    """A build of a classifier; keyword arguments change its report."""
    found = BuildReport(
        artifact="sha256:" + "a" * 64, size_bytes=9_300_000, runtime="openvino", precision="bf16", why=WHY, speedup=3.31,
        torch_texts_per_second=192.1, candidates=CANDIDATES, gates=GATES, surface=SURFACE, compared_texts=1000, seconds=65.4,
        software={"torch": "2.13.0", "openvino": "2026.4.1"},
    )  # fmt: skip
    return Built(request(), manifest(), found.model_copy(update=report))


def request(**fields: Any) -> BuildRequest:
    """What was asked for."""
    dataset = DatasetSource(uri="pvc://models/test.csv", slices=("source",))
    gates = Gates(evaluation=EvaluationGate(dataset=dataset, metrics=(MetricGate(name="accuracy", min=0.9),)))
    base = {
        "name": "eb-4f6c0a1b2c3d", "uri": "hf://team/moderation@v2", "digest": "sha256:" + "d" * 64,
        "task": "text-classification", "gates": gates, "hardware": HARDWARE,
    }  # fmt: skip
    return BuildRequest.model_validate(base | fields)


def manifest(**fields: Any) -> Artifact:
    """What the artifact says of itself."""
    base = {
        "task": "text-classification", "runtime": "openvino", "precision": "bf16", "engine": "model.xml",
        "inputs": ("input_ids", "attention_mask"), "output": "logits", "dimensions": 2, "max_tokens": 256, "max_batch_size": 32,
        "labels": ("calm", "angry"), "hardware": HARDWARE,
        "files": (ArtifactFile(path="model.xml", sha256="b" * 64, size_bytes=12345),),
    }  # fmt: skip
    return Artifact.model_validate(base | fields)


def with_sections(found: Built, **sections: Any) -> Built:
    """The build with more in the wire form of its report, as later releases may have."""
    found.__dict__["wire"] = {**found.wire, **sections}
    return found
