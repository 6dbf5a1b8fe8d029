"""The model card of an engine: front matter that the Hugging Face Hub reads, with what was measured as `model-index`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from huggingface_hub import EvalResult, ModelCardData

from tapchanger_serving.build.pages import words
from tapchanger_serving.build.pages.built import VERIFICATION, Built
from tapchanger_serving.build.pages.markdown import code, escaped, table
from tapchanger_serving.contract.messages import Candidate, GateResult, engine_title

_LIBRARIES = {"onnxruntime": "onnx", "openvino": "openvino", "tensorrt": "tensorrt"}
_REDUCED = {"int8", "fp8"}
_NAME = re.compile(r"(?P<metric>[^\[]*)(?:\[(?P<slice>.*)\])?(?P<kind>[^\]]*)", re.DOTALL)
"""A gate's name: `accuracy`, `accuracy[source=forum]`, `accuracy[source=forum] drop`."""


def render(built: Built) -> str:
    """The card as Markdown with front matter. The same build gives the same bytes."""
    return f"---\n{_data(built).to_yaml(line_break=chr(10))}\n---\n\n{_body(built)}"


def _data(built: Built) -> ModelCardData:
    base = base_model(built.request.uri)
    return ModelCardData(
        base_model=base,
        library_name=_LIBRARIES[built.manifest.runtime],
        pipeline_tag=built.manifest.task,
        tags=[
            "tapchanger",
            built.manifest.runtime,
            words.plain(built.manifest.precision),
            built.manifest.hardware.arch,
            *(["distillation"] if built.report.student_layers else []),
        ],
        model_name=words.plain(built.model),
        eval_results=list(_results(built)),
        base_model_relation=_relation(built) if base else None,
    )


def _relation(built: Built) -> str | None:
    """What the engine is to the checkpoint, in the Hub's words, which have none for a student but that it was trained on."""
    if built.report.student_layers:
        return "finetune"
    return "quantized" if built.report.precision in _REDUCED else None


def base_model(uri: str) -> str | None:
    """The Hub's name of the checkpoint, where it came from there."""
    scheme, _, rest = uri.partition("://")
    return words.plain(rest.split("@")[0]) if scheme == "hf" else None


def _results(built: Built) -> Iterator[EvalResult]:
    """Every gate that has a figure: parity on the comparison texts, all others on the evaluation data."""
    evaluation = built.request.gates.evaluation
    for gate in built.report.gates:
        if gate.value is None:
            continue
        judged_on = None if gate.name.startswith("parity") else evaluation
        dataset = words.plain(_file(judged_on.dataset.uri)) if judged_on else "comparison texts"
        parts = _NAME.fullmatch(gate.name)
        part = parts["slice"] if parts else None
        metric = parts["metric"] + parts["kind"] if parts else gate.name
        # The Hub groups results by the data's type and configuration, not by its name.
        yield EvalResult(
            task_type=built.manifest.task,
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_config=words.plain(part) if part else None,
            metric_type=words.plain(metric).replace(" ", "_"),
            metric_name=words.plain(gate.name),
            metric_value=gate.value,
        )


def _file(uri: str) -> str:
    return uri.split("@sha256:")[0].rstrip("/").rpartition("/")[2]


def _body(built: Built) -> str:
    report, manifest = built.report, built.manifest
    gpu = manifest.hardware.gpu
    machine = gpu.product if gpu else ", ".join(manifest.hardware.instruction_sets)
    parts = [
        f"# {escaped(built.model)}: {escaped(built.engine)} engine",
        f"{escaped(report.why)}.",
        f"The engine was built by tapchanger from {code(built.request.uri)} "
        f"(content {code(built.request.digest)}) for {escaped(manifest.task)}, and measured on "
        f"{escaped(manifest.hardware.arch)} with {escaped(machine or 'no vector extensions')}. It takes batches of up to "
        f"{manifest.max_batch_size} texts of up to {manifest.max_tokens} tokens.",
    ]
    if manifest.labels:
        parts.append(f"Labels: {', '.join(escaped(label) for label in manifest.labels[:20])}" + _rest(manifest.labels))
    parts += [
        "## Gates",
        "What the engine had to show before it may serve.",
        table(("Gate", "Found", "Bound", "", "Detail"), map(_gate, report.gates), figures=("Found",)),
        "## Candidates",
        table(
            ("Engine", "Texts/s", "p50 of one text", "Against PyTorch", ""),
            [*(_candidate(built, one) for one in report.candidates), _torch(built)],
            figures=("Texts/s", "p50 of one text"),
        ),
    ]
    if report.distillation:
        chosen = "The engine is that student's." if report.student_layers else "The engine is the model's own."
        parts += ["## Distillation", f"There was {escaped(report.distillation.summary)}. {chosen}"]
    if report.surface:
        points = [
            (str(at.batch), str(at.tokens), words.milliseconds(at.p50_ms), words.milliseconds(at.p99_ms))
            for at in report.surface
        ]
        columns = ("Batch", "Tokens", "p50", "p99")
        parts += ["## Latency of whole batches", table(columns, points, figures=columns)]
    parts += [
        "## Where it may run",
        "An engine answers and performs as measured on hardware of this kind. On another, build it again.",
        "## How to verify it",
        f"The artifact's digest is {code(report.artifact)}. In its folder the first command prints it, and the second "
        "checks every file:",
        "```sh\n" + "\n".join(VERIFICATION) + "\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _rest(labels: tuple[str, ...]) -> str:
    return f" and {len(labels) - 20} more." if len(labels) > 20 else "."


def _gate(gate: GateResult) -> tuple[str, ...]:
    found = "not evaluated" if gate.value is None else words.figure(gate.value)
    return escaped(gate.name), found, escaped(gate.bound), _verdict(gate.passed), escaped(gate.detail or "")


def _candidate(built: Built, one: Candidate) -> tuple[str, ...]:
    name = engine_title(one)
    if one.error is not None:
        return escaped(name), words.DASH, words.DASH, escaped(one.error), "not built"
    close = (
        f"agreement {words.figure(one.agreement, 5)}" if one.cosine is None else f"cosine {words.figure(one.cosine, 5)}"
    )
    verdict = "**chosen**" if built.is_chosen(one) else _verdict(one.passed)
    return escaped(name), words.figure(one.texts_per_second), words.milliseconds(one.p50_ms), close, verdict


def _torch(built: Built) -> tuple[str, ...]:
    return "PyTorch eager fp32", words.figure(built.report.torch_texts_per_second), words.DASH, "", "the reference"


def _verdict(passed: bool) -> str:
    return "passed" if passed else "failed"
