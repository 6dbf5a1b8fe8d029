"""How a student is made and trained: its layers, its losses, its memory and its time."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tapchanger_serving.build.distill.layers import layer_count, make_student
from tapchanger_serving.build.distill.losses import Objective, binary_loss, embedding_loss, pooled, softened_loss
from tapchanger_serving.build.distill.pick import picked_layers
from tapchanger_serving.build.distill.room import Sizes, free_bytes, texts_at_once
from tapchanger_serving.build.distill.teacher import Teacher
from tapchanger_serving.build.distill.texts import Corpus, Text, select
from tapchanger_serving.build.distill.training import Budget, Training, batches, rate
from tapchanger_serving.build.exported import Exported
from tapchanger_serving.build.failures import StepError
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.build.torch_model import Headed
from tapchanger_serving.contract.artifact import Pooling
from tapchanger_serving.contract.distill import Distill
from tapchanger_serving.contract.gates import TextSource
from tapchanger_serving.engines import postprocess
from tapchanger_serving.engines.text import Tokenizer

FACTS: dict[str, Any] = {
    "task": "text-classification", "inputs": ("input_ids", "attention_mask"), "output": "logits", "dimensions": 2,
    "max_tokens": 8, "max_batch_size": 8, "parameters": 1,
}  # fmt: skip
WORDS = ("good", "bad", "tea", "rain", "train", "late")


@pytest.mark.parametrize(
    ("teacher", "student", "picked"),
    [
        (12, None, (0, 2, 4, 7, 9, 11)),
        (6, None, (0, 2, 5)),
        (6, 2, (0, 5)),
        (3, None, (0, 2)),
        (2, None, (0,)),
        (24, 1, (0,)),
    ],
)
def test_layers_are_spread_evenly_as_distilbert_took_them(
    teacher: int, student: int | None, picked: tuple[int, ...]
) -> None:
    assert picked_layers(teacher, student) == picked


@pytest.mark.parametrize(
    ("teacher", "student", "field", "remedy"),
    [
        (6, 6, "spec.engine.distill.layers", "write a number from 1 to 5, or leave it out for 3"),
        (6, 9, "spec.engine.distill.layers", "write a number from 1 to 5"),
        (1, None, "spec.engine.distill", "leave out distill"),
    ],
)
def test_a_student_that_would_not_be_smaller_is_refused(
    teacher: int, student: int | None, field: str, remedy: str
) -> None:
    with pytest.raises(StepError, match="DistillInvalid") as refused:
        picked_layers(teacher, student)
    assert refused.value.failure.field == field
    assert remedy in (refused.value.failure.remedy or "")


class Encoder(torch.nn.Module):
    """Layers as transformers has them: a list in a part of the model, counted and described by the configuration."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(num_hidden_layers=layers, layer_types=[f"kind {at}" for at in range(layers)])
        self.encoder = torch.nn.Module()
        self.encoder.layer = torch.nn.ModuleList(torch.nn.Linear(3, 3) for _ in range(layers))
        self.small = torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in range(layers))


def test_the_student_has_copies_of_the_picked_layers_and_their_configuration() -> None:
    teacher = Encoder(4)
    student: Any = make_student(teacher, (0, 3))
    assert [
        torch.equal(student.encoder.layer[at].weight, teacher.encoder.layer[of].weight) for at, of in ((0, 0), (1, 3))
    ] == [True] * 2
    assert (student.config.num_hidden_layers, student.config.layer_types) == (2, ["kind 0", "kind 3"])
    assert len(student.small) == 4
    with torch.no_grad():
        student.encoder.layer[0].weight.zero_()
    assert teacher.encoder.layer[0].weight.abs().sum() > 0
    assert (layer_count(teacher), layer_count(student), teacher.config.num_hidden_layers) == (4, 2, 4)


def test_a_model_whose_layers_can_not_be_told_is_refused() -> None:
    shared = Encoder(4)
    shared.config.num_hidden_layers = 12
    with pytest.raises(StepError, match="can't be told apart"):
        layer_count(shared)


def test_losses_are_the_formulas_numbers() -> None:
    # Scores at temperature 2: (e, 1) / (e + 1) against one half each; 0.110945 nats, times 4.
    loss = softened_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), 2)
    assert loss.tolist() == pytest.approx([0.443780], abs=1e-5)
    # The teacher's chance is one half, the student's logit 1: ln(1 + e) - 1/2, times 4.
    assert binary_loss(torch.tensor([[2.0]]), torch.tensor([[0.0]]), 2).tolist() == pytest.approx([3.253047], abs=1e-5)
    student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    assert embedding_loss(student, teacher, normalized=True).tolist() == pytest.approx([1])
    assert embedding_loss(student, teacher, normalized=False).tolist() == pytest.approx([2.25])


def test_equal_answers_cost_nothing() -> None:
    logits = torch.tensor([[3.0, -1.0, 0.5], [0.0, 0.0, 9.0]])
    assert softened_loss(logits, logits, 2).abs().max() < 1e-6
    assert embedding_loss(logits, logits, normalized=False).abs().max() < 1e-6


def test_padding_is_no_unit_of_token_classification() -> None:
    objective = Objective(Exported.model_validate(FACTS | {"task": "token-classification"}), 1)
    output = torch.arange(12.0).reshape(2, 3, 2)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert objective.counts(mask) == [2, 3]
    found = objective.units(output, mask)
    assert found[:, 0].tolist() == [0, 2, 6, 8, 10]
    assert objective.alike(found, found.flip(-1)).tolist() == [0] * 5
    assert objective.losses(found, found).shape == (5,)


def test_several_labels_are_learnt_one_by_one() -> None:
    model = Exported.model_validate(FACTS | {"activation": "sigmoid", "dimensions": 3})
    objective = Objective(model, 1)
    student, teacher = torch.tensor([[1.0, -1, 2], [1, 1, 1]]), torch.tensor([[2.0, -3, 1], [1, 1, -1]])
    assert objective.alike(student, teacher).tolist() == [1, 0]
    assert objective.losses(student, teacher).tolist() == binary_loss(student, teacher, 1).tolist()


@pytest.mark.parametrize("mode", ["mean", "cls", "max"])
@pytest.mark.parametrize("normalize", [True, False])
def test_embeddings_are_pooled_as_the_server_pools_them(mode: Any, *, normalize: bool) -> None:
    hidden = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
    pooling = Pooling(mode=mode, normalize=normalize)
    wanted = postprocess.pool(hidden.numpy(), mask.numpy(), pooling)
    assert np.allclose(pooled(hidden, mask, pooling).numpy(), wanted, atol=1e-6)


def test_the_rate_rises_over_a_tenth_and_falls_to_nothing() -> None:
    rates = [rate(step, 20) for step in range(21)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[11] == pytest.approx(0.5)
    assert rates[19] == pytest.approx(1 / 18)
    assert rates[20] == 0
    assert [rate(step, 1) for step in (0, 1)] == [1, 0]


def test_an_epoch_has_every_text_once_in_batches_of_like_length() -> None:
    lengths = [index % 17 for index in range(100)]
    found = list(batches(lengths, range(10, 100), 8, random.Random(0)))
    assert sorted(itertools.chain.from_iterable(found)) == list(range(10, 100))
    assert max(map(len, found)) == 8
    assert max(max(lengths[row] for row in batch) - min(lengths[row] for row in batch) for batch in found) <= 2
    assert found != list(batches(lengths, range(10, 100), 8, random.Random(1)))


SIZES = Sizes(teacher_parameters=1000, parameters=100, layers=2, hidden=8, heads=2, tokens=4)


def test_memory_is_counted_by_the_formula_and_batches_are_halved_until_they_fit() -> None:
    # 4 × 1000 + 20 × 100; twice two layers of 4 × 8 × (34 + 5 × 2 × 4 / 8) bytes.
    assert (SIZES.fixed_bytes, SIZES.text_bytes) == (6000, 4992)
    assert texts_at_once(SIZES, 32, 10**6) == 32
    assert texts_at_once(SIZES, 33, int((6000 + 9 * 4992) / 0.7) + 1) == 9
    assert texts_at_once(SIZES, 32, int((6000 + 4992) / 0.7) + 1) == 1
    with pytest.raises(StepError, match="DistillTooLarge") as refused:
        texts_at_once(SIZES, 32, int((6000 + 4000) / 0.7))
    assert "buildResources" in (refused.value.failure.remedy or "")


def test_free_memory_is_what_machine_and_container_leave(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:  1000 kB\n")
    assert free_bytes("cpu", tmp_path, tmp_path / "meminfo") == 1_024_000
    (tmp_path / "memory").mkdir()
    for name, text in {
        "memory.limit_in_bytes": "500000", "memory.usage_in_bytes": "450000", "memory.stat": "total_inactive_file 200000",
    }.items():  # fmt: skip
        (tmp_path / "memory" / name).write_text(f"{text}\n")
    assert free_bytes("cpu", tmp_path, tmp_path / "meminfo") == 250_000
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("7\n")
    assert free_bytes("cpu", tmp_path, tmp_path / "meminfo") == 250_000
    (tmp_path / "memory.max").write_text("100007\n")
    assert free_bytes("cpu", tmp_path, tmp_path / "meminfo") == 100_000


class Bag(torch.nn.Module):
    """Mean of word vectors and a head: what a transformers model looks like from outside."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.words = torch.nn.Embedding(10, 4)
        self.head = torch.nn.Linear(4, 2)

    def forward(self, input_ids: Any, attention_mask: Any, return_dict: bool) -> tuple[torch.Tensor]:
        mask = attention_mask.unsqueeze(-1)
        return (self.head((self.words(input_ids) * mask).sum(1) / mask.sum(1)),)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So small a model is not worth two, and other tests may run beside it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def lesson(tokenizer_file: Path) -> Callable[..., Training]:
    """A teacher and a pupil of words; keyword arguments change what is wanted."""
    texts: list[Text] = [(" ".join(words),) for words in itertools.product(WORDS, repeat=3)]
    corpus = select(texts, [], [], 0)

    def make(at_once: int = 64, budget: Budget | None = None, of: Corpus = corpus, **wanted: Any) -> Training:
        asked = Distill.model_validate(
            {"dataset": TextSource(uri="x"), "learning_rate": 0.03, "batch_size": 16} | wanted
        )
        encoded = Encoded.of(Tokenizer(tokenizer_file, FACTS["inputs"], 8), of.rows, 8)
        objective = Objective(Exported.model_validate(FACTS), asked.temperature)
        teacher = Teacher(Headed(Bag(1).eval(), FACTS["inputs"]), encoded, objective)
        return Training(Headed(Bag(2), FACTS["inputs"]), teacher, of, asked, at_once, budget or Budget(1e9))

    return make


def test_a_student_learns_and_keeps_its_best_epoch(lesson: Callable[..., Training]) -> None:
    training = lesson(epochs=4)
    trained = training.run()
    losses = [epoch.held_out_loss for epoch in trained.epochs]
    assert [epoch.number for epoch in trained.epochs] == [0, 1, 2, 3, 4]
    assert losses[trained.best] == min(losses) < losses[0] / 10
    assert (trained.epochs[trained.best].agreement or 0) > (trained.epochs[0].agreement or 0)
    assert not trained.stopped_by_budget
    # What it is now is what it was then.
    assert training._held_out(9, None, 0).held_out_loss == losses[trained.best]


def test_the_same_seed_gives_the_same_student(lesson: Callable[..., Training]) -> None:
    def losses(seed: int) -> list[float]:
        return [epoch.held_out_loss for epoch in lesson(seed=seed).run().epochs]

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def test_turns_through_little_memory_add_up_to_the_same_step(lesson: Callable[..., Training]) -> None:
    at_once, in_turns = (lesson(at_once=count, epochs=1).run().epochs[-1] for count in (64, 3))
    assert in_turns.held_out_loss == pytest.approx(at_once.held_out_loss, rel=1e-3)
    assert in_turns.train_loss == pytest.approx(at_once.train_loss, rel=1e-3)


def test_training_ends_when_the_time_is_over_and_says_so(lesson: Callable[..., Training]) -> None:
    ticks = itertools.count()
    trained = lesson(epochs=50, budget=Budget(40, lambda: float(next(ticks)))).run()
    assert trained.stopped_by_budget
    assert 1 < len(trained.epochs) < 50
    assert [epoch.complete for epoch in trained.epochs] == [True] * (len(trained.epochs) - 1) + [False]
    assert trained.best == min(trained.epochs, key=lambda epoch: epoch.held_out_loss).number
    assert next(ticks) < 50


def test_without_time_for_a_step_the_student_is_as_it_began(lesson: Callable[..., Training]) -> None:
    ticks = itertools.count()
    trained = lesson(budget=Budget(2, lambda: float(next(ticks)))).run()
    assert (len(trained.epochs), trained.best, trained.stopped_by_budget) == (1, 0, True)


def test_a_student_that_diverges_says_what_to_lower(lesson: Callable[..., Training]) -> None:
    training = lesson()
    with torch.no_grad():
        training.student.model.head.weight.fill_(float("nan"))  # type: ignore[union-attr]
    with pytest.raises(StepError, match="DistillDiverged") as refused:
        training.run()
    assert refused.value.failure.field == "spec.engine.distill.learningRate"


def test_the_teacher_answers_each_text_once_as_long_as_there_is_memory(lesson: Callable[..., Training]) -> None:
    asked = []
    for kept, epochs in ((1 << 20, 3), (0, 3)):
        training = lesson(epochs=epochs)
        training.teacher.kept_bytes = kept
        calls: list[int] = []
        training.teacher.headed.register_forward_hook(
            lambda module, inputs, output, seen=calls: seen.append(len(output))
        )
        training.run()
        asked.append(sum(calls))
    count = len(training.corpus.texts)
    held_out = len(training.corpus.held_out)
    assert asked == [count, 3 * count + held_out]
