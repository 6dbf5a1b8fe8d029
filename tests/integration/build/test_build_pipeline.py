"""Whole builds of small models: from a checkpoint to an artifact that answers like PyTorch."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from tapchanger_serving.build import store
from tapchanger_serving.build.checkpoint import read_checkpoint
from tapchanger_serving.build.dataset import Rows
from tapchanger_serving.build.failures import StepError
from tapchanger_serving.build.tokenizer import require_same_tokens
from tapchanger_serving.contract.artifact import MANIFEST, Artifact
from tapchanger_serving.contract.gates import PERTURBATIONS
from tapchanger_serving.contract.messages import Gpu, Shapes
from tapchanger_serving.contract.names import EMBEDDING, ENTITIES, LABEL, SCORES
from tapchanger_serving.engines.answers import TextModel
from tapchanger_serving.engines.text import Tokenizer
from tests.support.small_builds import SENTENCES, Build, small_bert

TEXTS = [*SENTENCES, "tea", "the train and the rain and the tea " * 20]
SHAPES = {"maxBatchSize": 8, "maxTokens": 32}


def served(build: Build, digest: str) -> tuple[Artifact, dict[str, Any]]:
    folder = store.artifact_folder(build.places, digest)
    assert store.valid_artifact(folder, digest)
    artifact = Artifact.model_validate_json((folder / MANIFEST).read_text())
    model = TextModel.open(artifact, folder)
    return artifact, dict(model.answer(TEXTS, model.tokenize(TEXTS)))


def reference(folder: Path, auto: type[Any], max_tokens: int) -> tuple[Any, Any]:
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]")
    inputs = tokenizer(TEXTS, truncation=True, max_length=max_tokens, padding=True, return_tensors="pt")
    with torch.inference_mode():
        return auto.from_pretrained(folder).eval()(**inputs), inputs


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

    report = build.run(request)

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
    assert np.abs(answers[SCORES] - scores).max() <= (chosen.max_difference or 0) + 0.02
    # The same build again is answered from the store, by the same report.
    again = build.run(request)
    assert again == report


def write_csv(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def test_a_calibrated_classifier_of_pairs_serves_the_scores_that_were_judged(build: Build) -> None:
    models = build.places.claims / "models"
    folder = small_bert(models / "v1", transformers.BertForSequenceClassification, num_labels=2)
    pairs = [(left, right) for left in TEXTS for right in TEXTS]
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]")
    inputs = tokenizer(
        [left for left, _ in pairs], [right for _, right in pairs],
        truncation=True, max_length=32, padding=True, return_tensors="pt", return_token_type_ids=True,
    )  # fmt: skip
    with torch.inference_mode():
        logits = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()(**inputs).logits
    chance = torch.softmax(logits / 3, -1)[:, 1].numpy()
    random = np.random.default_rng(0)
    # Labels are drawn from the model's own chances at temperature 3, so that the model is three times too sure.
    rows = [
        [*pair, f"LABEL_{int(random.random() < share)}"]
        for _ in range(30)
        for pair, share in zip(pairs, chance, strict=True)
    ]
    write_csv(models / "data.csv", ["text", "other", "label"], rows)
    write_csv(models / "more.csv", ["text", "other"], [list(pair) for pair in pairs])
    gates = {
        "evaluation": {
            "dataset": {"uri": "pvc://models/data.csv", "textPair": "other"},
            "metrics": [{"name": "ece", "max": 0.08}, {"name": "auc"}, {"name": "mcc"}],
        },
        "data": {"maxPersonalData": 0},
        "robustness": {"texts": 10, "maxFlips": 1},
    }
    request = build.request(
        "pvc://models/v1", "text-classification", gates=gates, shapes=SHAPES, temperatureScaling=True,
        calibrationData={"uri": "pvc://models/more.csv", "textPair": "other"}, runtime="openvino", precision="fp32",
    )  # fmt: skip
    build.run(request)
    report = store.finished(build.places, build.name)
    assert report is not None

    assert report.calibration is not None
    assert report.calibration.after is not None
    assert report.calibration.temperature == pytest.approx(3, rel=0.3)
    assert report.calibration.after.ece < report.calibration.before.ece
    assert [flips.kind for flips in report.robustness] == list(PERTURBATIONS)
    assert report.data is not None
    assert report.data.leakage is not None
    assert report.data.leakage.share == 1
    folder = store.artifact_folder(build.places, report.artifact)
    artifact = Artifact.model_validate_json((folder / MANIFEST).read_text())
    model = TextModel.open(artifact, folder)
    left, right = [left for left, _ in pairs], [right for _, right in pairs]
    answers = model.answer(left, model.tokenize(left, right))
    scores = torch.softmax(logits / report.calibration.temperature, -1).numpy()
    assert np.abs(answers[SCORES] - scores).max() < 1e-3
    assert [label.decode() for label in answers[LABEL][:, 0]] == [f"LABEL_{int(row.argmax())}" for row in logits]


def test_a_classifier_of_several_labels_is_judged_by_decision(build: Build) -> None:
    models = build.places.claims / "models"
    small_bert(
        models / "v1", transformers.BertForSequenceClassification,
        id2label={0: "calm", 1: "angry", 2: "wet"}, num_labels=3, problem_type="multi_label_classification",
    )  # fmt: skip
    write_csv(models / "data.csv", ["text", "label"], [[text, "calm|wet"] for text in TEXTS] + [["tea", ""]])
    gates = {
        "evaluation": {
            "dataset": {"uri": "pvc://models/data.csv"},
            "metrics": [{"name": "f1"}, {"name": "f1_micro", "min": 0}, {"name": "auc"}, {"name": "accuracy"}],
        }
    }
    request = build.request(
        "pvc://models/v1", "text-classification", gates=gates, shapes=SHAPES, runtime="openvino", precision="fp32"
    )
    report = build.run(request)
    assert [gate.name for gate in report.gates] == ["parity agreement", "f1", "f1_micro", "auc", "accuracy"]
    assert all(gate.interval for gate in report.gates)


def test_pairs_of_embeddings_are_held_to_the_labels_and_a_wrong_pooling_is_named(build: Build) -> None:
    models = build.places.claims / "models"
    folder = small_bert(models / "embed", transformers.BertModel)
    output, inputs = reference(folder, transformers.AutoModel, 64)
    mask = inputs["attention_mask"].unsqueeze(-1)
    mean = torch.nn.functional.normalize((output[0] * mask).sum(1) / mask.sum(1), dim=-1).numpy()
    count = len(TEXTS)
    rows = [
        [TEXTS[left], TEXTS[right], f"{mean[left] @ mean[right]:.4f}"] for left in range(count) for right in range(left)
    ]
    write_csv(models / "pairs.csv", ["text", "other", "likeness"], rows)
    (folder / "modules.json").write_text(json.dumps([{"type": f"x.{kind}"} for kind in ("Transformer", "Pooling")]))
    (folder / "1_Pooling").mkdir()
    dataset = {"uri": "pvc://models/pairs.csv", "textPair": "other", "label": "likeness"}
    gates = {"evaluation": {"dataset": dataset, "metrics": [{"name": "spearman", "min": 0.95}]}}
    fixed = {"gates": gates, "runtime": "openvino", "precision": "fp32", "shapes": {"maxBatchSize": 8, "maxTokens": 64}}

    (folder / "1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')
    report = build.run(build.request("pvc://models/embed", "feature-extraction", **fixed))
    assert [(gate.name, gate.passed) for gate in report.gates] == [("parity cosine", True), ("spearman", True)]

    (folder / "1_Pooling/config.json").write_text('{"pooling_mode_cls_token": true}')
    build = replace(build, name="eb-other")
    request = build.request("pvc://models/embed", "feature-extraction", **fixed)
    assert [build.step(step, request=request).returncode for step in ("fetch", "export", "measure")] == [0, 0, 42]
    assert "spearman is" in build.failure().message
    assert "pooling cls" in build.failure().message
    assert "mean pooling would have" in build.failure().message


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


def test_a_tokenizer_that_differs_from_the_checkpoint_s_is_refused_with_the_first_difference(build: Build) -> None:
    folder = small_bert(build.places.claims / "models/v1", transformers.BertForSequenceClassification)
    tokenizer = Tokenizer(folder / "tokenizer.json", ("input_ids",), 32)
    rows = Rows(texts=("Tea", "The train is LATE"))

    def differs() -> str:
        with pytest.raises(StepError) as caught:
            require_same_tokens(read_checkpoint(folder, "text-classification"), tokenizer, rows, 32)
        assert caught.value.failure.reason == "TokenizerMismatch"
        return caught.value.failure.message

    require_same_tokens(read_checkpoint(folder, "text-classification"), tokenizer, rows, 32)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
    require_same_tokens(read_checkpoint(folder, "text-classification"), tokenizer, rows, 32)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": false}')
    assert "text 1 becomes other tokens than with transformers' BertTokenizer" in differs()
    words = [word for word, _ in sorted(tokenizer_words(folder).items(), key=lambda item: item[1])]
    words[20], words[21] = words[21], words[20]
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    assert f"{words[20]!r} is token 21 in tokenizer.json and 20 in vocab.txt" in differs()


def tokenizer_words(folder: Path) -> dict[str, int]:
    vocabulary: dict[str, int] = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    return vocabulary


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
