"""Whole builds with all kinds of gates: what was judged is what is served, and planted faults are named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from tapchanger_serving.build.checkpoint import read_checkpoint
from tapchanger_serving.build.dataset import Rows
from tapchanger_serving.build.failures import StepError
from tapchanger_serving.build.stores.volume import Volume
from tapchanger_serving.build.tokenizer import require_same_tokens
from tapchanger_serving.contract.artifact import MANIFEST, Artifact
from tapchanger_serving.contract.gates import PERTURBATIONS
from tapchanger_serving.contract.names import LABEL, SCORES
from tapchanger_serving.engines.answers import TextModel
from tapchanger_serving.engines.features import Known
from tapchanger_serving.engines.text import Tokenizer
from tests.support.small_builds import TEXTS, Build, reference, small_bert, write_csv

SHAPES = {"maxBatchSize": 8, "maxTokens": 32}


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
    write_csv(models / "traffic.csv", ["text"], [[left] for left, _ in pairs] * 40)
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
        driftData={"uri": "pvc://models/traffic.csv"},
    )  # fmt: skip
    build.run(request)
    report = Volume(build.places).finished(build.name)
    assert report is not None

    assert report.calibration is not None
    assert report.calibration.after is not None
    assert report.calibration.temperature == pytest.approx(3, rel=0.3)
    assert report.calibration.after.ece < report.calibration.before.ece
    assert [flips.kind for flips in report.robustness] == list(PERTURBATIONS)
    assert report.data is not None
    assert report.data.leakage is not None
    assert report.data.leakage.share == 1
    folder = Volume(build.places).artifact_folder(report.artifact)
    artifact = Artifact.model_validate_json((folder / MANIFEST).read_text())
    known = Known.read(folder)
    assert known
    assert (known.reference.texts, known.reference.accuracy) == (40 * len(pairs), None)
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
