"""Whole builds of small models: from a checkpoint to an artifact that answers like PyTorch."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from typing import Any

import numpy as np
import torch
import transformers

from tapchanger_serving.build.stores import volume
from tapchanger_serving.build.stores.volume import Volume
from tapchanger_serving.contract.artifact import MANIFEST, Artifact
from tapchanger_serving.contract.messages import Gpu, Shapes
from tapchanger_serving.contract.names import EMBEDDING, ENTITIES, SCORES
from tapchanger_serving.engines.answers import TextModel
from tapchanger_serving.engines.features import Known
from tests.support.small_builds import TEXTS, Build, reference, small_bert, write_csv

SHAPES = {"maxBatchSize": 8, "maxTokens": 32}


def served(build: Build, digest: str) -> tuple[Artifact, dict[str, Any]]:
    folder = Volume(build.places).artifact_folder(digest)
    assert volume.valid_artifact(folder, digest)
    artifact = Artifact.model_validate_json((folder / MANIFEST).read_text())
    model = TextModel.open(artifact, folder)
    return artifact, dict(model.answer(TEXTS, model.tokenize(TEXTS)))


def test_a_classifier_is_built_judged_and_answers_like_pytorch(build: Build) -> None:
    labels = {0: "calm", 1: "angry", 2: "wet"}
    folder = small_bert(
        build.places.claims / "models/v1", transformers.BertForSequenceClassification, id2label=labels, num_labels=3
    )
    scores = torch.softmax(reference(folder, transformers.AutoModelForSequenceClassification, 32)[0].logits, -1).numpy()
    with (build.places.claims / "models/data.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label", "source"])
        for repeat in range(40):
            writer.writerows(
                [text, labels[int(best)], f"s{repeat % 2}"] for text, best in zip(TEXTS, scores.argmax(-1), strict=True)
            )
    evaluation = {
        "dataset": {"uri": "pvc://models/data.csv", "slices": ["source"]},
        "metrics": [
            {"name": "accuracy", "min": 0.9, "maxDrop": 0.05},
            {"name": "f1", "slice": "*", "min": 0.5},
            {"name": "ece", "max": 1},
        ],
    }
    gates = {"evaluation": evaluation}
    request = build.request("pvc://models/v1", "text-classification", gates=gates, shapes=SHAPES)

    report = build.run(request, fresh=True)

    assert {candidate.runtime for candidate in report.candidates} >= {"onnxruntime", "openvino"}
    assert all(candidate.error is None for candidate in report.candidates)
    assert {gate.name for gate in report.gates} == {
        "parity agreement", "accuracy", "accuracy drop", "f1[source=s0]", "f1[source=s1]", "ece",
    }  # fmt: skip
    assert all(gate.passed for gate in report.gates)
    assert report.compared_texts == 240
    artifact, answers = served(build, report.artifact)
    assert (artifact.runtime, artifact.precision) == (report.runtime, report.precision)
    assert artifact.labels == ("calm", "angry", "wet")
    assert (artifact.max_tokens, artifact.max_batch_size) == (32, 8)
    assert (answers[SCORES].argmax(-1) == scores.argmax(-1)).all()
    chosen = next(c for c in report.candidates if (c.runtime, c.precision) == (report.runtime, report.precision))
    assert np.abs(answers[SCORES] - scores).max() <= 2 * (chosen.max_difference or 0) + 0.05
    # Servers can tell what traffic is like, compared with the evaluation data.
    known = Known.read(Volume(build.places).artifact_folder(report.artifact))
    assert known
    assert known.reference.texts == known.reference.labelled == 240
    assert (known.reference.accuracy or 0) >= 0.95
    assert sum(known.reference.labels.values()) == 240
    assert set(known.reference.counts) >= {"tokens", "surprise", "rare", "confidence", "entropy", "e0"}
    # The same build again is answered from the store, by the same report.
    again = build.run(request)
    assert again == report


def test_embeddings_are_those_of_sentence_transformers(build: Build) -> None:
    folder = small_bert(build.places.claims / "models/embed", transformers.BertModel)
    kinds = ("Transformer", "Pooling", "Normalize")
    (folder / "modules.json").write_text(
        json.dumps([{"type": f"sentence_transformers.models.{kind}"} for kind in kinds])
    )
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 24}')
    output, inputs = reference(folder, transformers.AutoModel, 24)
    mask = inputs["attention_mask"].unsqueeze(-1)
    expected = torch.nn.functional.normalize((output[0] * mask).sum(1) / mask.sum(1), dim=-1).numpy()

    report = build.run(build.request("pvc://models/embed", "feature-extraction", precision="fp32", shapes=SHAPES))

    assert [gate.name for gate in report.gates] == ["parity cosine"]
    artifact, answers = served(build, report.artifact)
    assert artifact.max_tokens == 24
    assert np.allclose(answers[EMBEDDING], expected, atol=1e-4)


def test_a_token_classifier_is_built(build: Build) -> None:
    small_bert(
        build.places.claims / "models/tokens", transformers.BertForTokenClassification,
        id2label={0: "O", 1: "B-PLACE", 2: "I-PLACE"}, num_labels=3,
    )  # fmt: skip
    write_csv(
        build.places.claims / "models/data.csv", ["text", "label"], [["tea friday rain", "O B-PLACE I-PLACE"]] * 3
    )
    dataset = {"uri": "pvc://models/data.csv"}
    gates = {"evaluation": {"dataset": dataset, "metrics": [{"name": "entity_f1", "min": 0}]}}
    request = build.request(
        "pvc://models/tokens",
        "token-classification",
        runtime="onnxruntime",
        precision="fp32",
        shapes=SHAPES,
        gates=gates,
    )
    report = build.run(request)
    assert [gate.name for gate in report.gates] == ["parity agreement", "entity_f1"]
    assert [(c.runtime, c.agreement) for c in report.candidates] == [("onnxruntime", 1.0)]
    _, answers = served(build, report.artifact)
    entities = [json.loads(row[0]) for row in answers[ENTITIES]]
    assert any(entities)
    assert {entity["entity"] for found in entities for entity in found} == {"PLACE"}


def test_a_gate_that_no_engine_can_meet_ends_the_build_with_its_figure(build: Build) -> None:
    small_bert(build.places.claims / "models/v1", transformers.BertForSequenceClassification)
    (build.places.claims / "models/data.jsonl").write_text(
        "\n".join(json.dumps({"text": "tea", "label": index % 2}) for index in range(40))
    )
    evaluation = {"dataset": {"uri": "pvc://models/data.jsonl"}, "metrics": [{"name": "accuracy", "min": 0.9}]}
    request = build.request(
        "pvc://models/v1", "text-classification", runtime="onnxruntime", gates={"evaluation": evaluation}, shapes=SHAPES
    )
    assert [build.step(step, request=request).returncode for step in ("fetch", "export", "measure")] == [0, 0, 42]
    failure = build.failure()
    assert failure.reason == "GateFailed"
    assert "accuracy is 0.5 [0.352, 0.648], wanted ≥ 0.9 (40 rows" in failure.message
    assert failure.field == "spec.engine.gates"
    assert not (build.places.store / "reports").exists()


def test_a_head_that_is_named_and_not_there_is_refused(build: Build) -> None:
    folder = small_bert(build.places.claims / "models/v1", transformers.BertModel)
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["BertForSequenceClassification"]}
    (folder / "config.json").write_text(json.dumps(config))
    request = build.request("pvc://models/v1", "text-classification", shapes=SHAPES)
    assert [build.step(step, request=request).returncode for step in ("fetch", "export")] == [0, 42]
    assert build.failure().reason == "CheckpointIncomplete"
    assert "classifier.weight" in build.failure().message


def test_an_old_vocabulary_gives_the_same_tokenizer(build: Build) -> None:
    folder = small_bert(build.places.claims / "models/v1", transformers.BertForSequenceClassification)
    modern = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    vocabulary = sorted(modern.get_vocab().items(), key=lambda item: item[1])
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word, _ in vocabulary))
    (folder / "tokenizer.json").unlink()
    request = build.request("pvc://models/v1", "text-classification", shapes=SHAPES)
    assert [build.step(step, request=request).returncode for step in ("fetch", "export")] == [0, 0]
    made = transformers.PreTrainedTokenizerFast(tokenizer_file=str(build.places.exported / "tokenizer.json"))
    assert [made(text)["input_ids"] for text in TEXTS] == [modern(text)["input_ids"] for text in TEXTS]


def test_the_remedy_for_a_pickled_checkpoint_works_as_it_is_written(build: Build) -> None:
    folder = small_bert(build.places.claims / "models/old", transformers.BertForSequenceClassification)
    tensors = transformers.AutoModelForSequenceClassification.from_pretrained(folder).state_dict()
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert build.step("inspect", "--uri", "pvc://models/old", "--task", "text-classification").returncode == 42
    assert build.failure().reason == "PickleCheckpoint"
    command = (build.failure().remedy or "").split(": ", 1)[1]
    new = build.places.claims / "models/new"
    command = (
        command.replace("OLD_FOLDER", str(folder))
        .replace("NEW_FOLDER", str(new))
        .replace("python ", f"{sys.executable} -W ignore ", 1)
    )
    subprocess.run(["bash", "-c", command], check=True, capture_output=True)
    assert build.step("inspect", "--uri", "pvc://models/new", "--task", "text-classification").returncode == 0


def test_graphs_for_a_gpu_compute_in_half_precision_and_answer_in_fp32(build: Build) -> None:
    import onnx

    small_bert(build.places.claims / "models/v1", transformers.BertForSequenceClassification)
    request = build.request("pvc://models/v1", "text-classification", shapes=SHAPES)
    gpu = Gpu(product="NVIDIA L4", compute_capability="8.9", driver="580")
    request = request.model_copy(update={"hardware": request.hardware.model_copy(update={"gpu": gpu})})
    assert [build.step(step, request=request).returncode for step in ("fetch", "export")] == [0, 0]
    kinds = {
        "model.onnx": onnx.TensorProto.FLOAT,
        "model-fp16.onnx": onnx.TensorProto.FLOAT16,
        "model-bf16.onnx": onnx.TensorProto.BFLOAT16,
    }
    for name, kind in kinds.items():
        graph = onnx.load(build.places.exported / name).graph
        products = {node.output[0] for node in graph.node if node.op_type == "MatMul"}
        types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
        assert {types[product] for product in products if product in types} == {kind}
        assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_shapes_below_the_reference_point_are_measured_where_they_allow(build: Build) -> None:
    small_bert(build.places.claims / "models/v1", transformers.BertForSequenceClassification)
    shapes = Shapes(max_batch_size=2, max_tokens=16)
    request = build.request(
        "pvc://models/v1", "text-classification", runtime="openvino", precision="fp32", shapes=shapes
    )
    report = build.run(request)
    assert {(point.batch, point.tokens) for point in report.surface} == {(1, 16), (2, 16)}
