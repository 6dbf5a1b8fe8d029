"""Students: of every family, for every task, and through a whole build, where the figures choose."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import transformers

from tapchanger_serving.build.checkpoint import read_checkpoint
from tapchanger_serving.build.choose import preferred
from tapchanger_serving.build.distill.layers import layer_count, make_student, parameters
from tapchanger_serving.build.distill.losses import Objective
from tapchanger_serving.build.distill.pick import picked_layers
from tapchanger_serving.build.distill.teacher import Teacher
from tapchanger_serving.build.distill.texts import select
from tapchanger_serving.build.distill.training import Budget, Training
from tapchanger_serving.build.exported import Exported
from tapchanger_serving.build.stores.volume import Volume
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.build.torch_model import Headed, load_torch
from tapchanger_serving.contract.distill import Distill, Distillation
from tapchanger_serving.contract.gates import TextSource
from tapchanger_serving.contract.messages import BuildReport
from tapchanger_serving.engines.text import TOKENIZER_FILE, Tokenizer
from tests.support.families import FAMILIES, HEADS, Family, small_checkpoint
from tests.support.small_builds import SENTENCES, Build, small_bert, write_csv

SHAPES = {"maxBatchSize": 8, "maxTokens": 32}
WORDS = sorted({word.strip(",") for sentence in SENTENCES for word in sentence.split()})


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So small a model is not worth two, and other tests may run beside it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sentences(count: int, seed: int) -> list[str]:
    dice = random.Random(seed)
    return [" ".join(dice.choices(WORDS, k=dice.randint(4, 16))) for _ in range(count)]


def deepened(family: Family, layers: int) -> Family:
    name = "n_layers" if "n_layers" in family.settings else "num_hidden_layers"
    return dataclasses.replace(family, settings=family.settings | {name: layers})


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_student_of_each_family_is_read_back_as_it_was(family: Family, tmp_path: Path) -> None:
    folder = small_checkpoint(tmp_path / "teacher", deepened(family, 4), "text-classification", num_labels=3)
    teacher = load_torch(folder, "text-classification").headed
    keep = picked_layers(layer_count(teacher.model), None)
    assert keep == (0, 3)
    student = Headed(make_student(teacher.model, keep), teacher.inputs).eval()
    assert parameters(student) < parameters(teacher)
    student.model.save_pretrained(tmp_path / "student")
    again = load_torch(tmp_path / "student", "text-classification", attention="eager").headed
    assert (layer_count(again.model), parameters(again)) == (2, parameters(student))
    feeds = tuple(
        torch.randint(5, 30, (3, 20)) if name == "input_ids" else torch.ones(3, 20, dtype=torch.int64)
        for name in teacher.inputs
    )
    feeds = tuple(
        torch.zeros_like(feed) if name == "token_type_ids" else feed
        for name, feed in zip(teacher.inputs, feeds, strict=True)
    )
    with torch.inference_mode():
        assert torch.allclose(student(*feeds), again(*feeds), atol=1e-4)


@pytest.mark.parametrize("task", HEADS)
def test_a_student_comes_closer_to_its_teacher_in_every_task(task: str, tmp_path: Path) -> None:
    bert = FAMILIES[0]
    folder = small_checkpoint(tmp_path / "teacher", deepened(bert, 4), task)
    found = read_checkpoint(folder, task)
    teacher = load_torch(folder, task).headed
    model = Exported(
        task=task, inputs=teacher.inputs, output="logits", dimensions=2, max_tokens=32, max_batch_size=8, parameters=1,
        labels=found.labels, pooling=found.pooling,
    )  # fmt: skip
    corpus = select([(text,) for text in sentences(400, 0)], [], [], 0)
    texts = Encoded.of(Tokenizer(folder / TOKENIZER_FILE, teacher.inputs, 32), corpus.rows, 8)
    student = Headed(make_student(teacher.model, (0, 3)), teacher.inputs)
    wanted = Distill(dataset=TextSource(uri="x"), epochs=4, learning_rate=2e-3)
    lesson = Training(student, Teacher(teacher, texts, Objective(model, 2.0)), corpus, wanted, 32, Budget(60))
    epochs = lesson.run().epochs
    assert min(epoch.held_out_loss for epoch in epochs) < 0.7 * epochs[0].held_out_loss
    assert (epochs[-1].cosine is None) == (task != "feature-extraction")


def truth(text: str) -> int:
    words = text.split()
    return 0 if "tea" in words else 1 if {"rain", "train"} & set(words) else 2


def taught_bert(folder: Path, texts: list[str]) -> None:
    """A BERT of four layers that has learnt :func:`truth`, and to answer something else without the two in the middle."""
    kind = transformers.BertForSequenceClassification
    small_bert(folder, kind, layers=4, num_labels=3, initializer_range=0.2)
    model = kind.from_pretrained(folder)
    encoder, whole = model.bert.encoder, model.bert.encoder.layer
    outer = torch.nn.ModuleList([whole[0], whole[3]])
    tokenizer = Tokenizer(folder / TOKENIZER_FILE, ("input_ids", "attention_mask"), 32)
    optimizer, dice = torch.optim.AdamW(model.parameters(), lr=3e-3), random.Random(0)
    for _ in range(150):
        chosen = dice.sample(texts, 32)
        feeds = {name: torch.from_numpy(tensor) for name, tensor in tokenizer.encode(chosen).items()}
        wanted = torch.tensor([truth(text) for text in chosen])
        optimizer.zero_grad()
        for encoder.layer, answer in ((outer, (wanted + 1) % 3), (whole, wanted)):
            torch.autograd.backward(torch.nn.functional.cross_entropy(model(**feeds).logits, answer))
        optimizer.step()
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)


def alike(record: Distillation, number: int) -> float:
    return next(epoch.agreement or 0.0 for epoch in record.epochs if epoch.number == number)


def finished(build: Build) -> tuple[BuildReport, Distillation, int]:
    """The report, the record of the student, and how many layers the engine's configuration has."""
    report = Volume(build.places).finished(build.name)
    assert report is not None
    assert report.distillation is not None
    config = Volume(build.places).artifact_folder(report.artifact) / "config.json"
    return report, report.distillation, json.loads(config.read_text())["num_hidden_layers"]


def test_a_student_goes_through_the_gates_and_is_chosen_by_its_figures_only(build: Build) -> None:
    models = build.places.claims / "models"
    learnt, judged = sentences(1500, 2), sentences(200, 1)
    taught_bert(models / "v1", learnt)
    write_csv(models / "test.csv", ["text", "label"], [[text, f"LABEL_{truth(text)}"] for text in judged])
    write_csv(models / "texts.csv", ["body"], [[text] for text in [*learnt, *judged[:25], judged[0].upper()]])
    distill = {"dataset": {"uri": "pvc://models/texts.csv", "text": "body"}, "learningRate": 1e-3}
    data = {"dataset": {"uri": "pvc://models/test.csv"}, "metrics": [{"name": "accuracy", "maxDrop": 0.1}]}
    request = build.request(
        "pvc://models/v1", "text-classification", shapes=SHAPES, runtime="onnxruntime", precision="fp32",
        gates={"parity": {"minAgreement": 0.9}, "evaluation": data}, distill=distill,
    )  # fmt: skip

    build.run(request)
    report, record, layers = finished(build)

    assert (record.layers, record.teacher_layers) == ((0, 3), 4)
    assert (record.rows, record.in_evaluation, record.best > 0) == (1526, 26, True)
    assert alike(record, 0) + 0.2 < alike(record, record.best)
    model, student = report.candidates
    assert (model.student_layers, student.student_layers) == (None, 2)
    assert (model.agreement, student.passed) == (1.0, True)
    assert (student.texts_per_second or 0) > (model.texts_per_second or 0)
    assert preferred(report.candidates)[0] == student
    assert (report.student_layers, layers) == (2, 2)
    assert report.why.startswith("onnxruntime fp32 of the 2-layer student gave ")
    assert "26 texts were left out since they are evaluation data" in build.places.page(build.name).read_text()

    # The same student without what it learnt is as fast, and falls.
    untaught = Build(build.places, "eb-untaught")
    lazy = request.model_copy(
        update={
            "name": untaught.name,
            "distill": request.distill and request.distill.model_copy(update={"learning_rate": 1e-12, "epochs": 1}),
        }
    )
    for step in ("distill", "measure"):
        done = untaught.step(step, request=lazy)
        assert done.returncode == 0, done.stdout + done.stderr
    report, _, layers = finished(untaught)
    assert (report.student_layers, report.candidates[1].passed, layers) == (None, False, 4)
    assert "faster, but failed a gate: onnxruntime fp32 of the 2-layer student" in report.why
