"""Trains the student: epochs over the texts, the best of them by the held-out texts, and an end when the time is over."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from tapchanger_serving.build import log
from tapchanger_serving.build.distill.losses import Objective
from tapchanger_serving.build.distill.teacher import Batch, Teacher
from tapchanger_serving.build.distill.texts import Corpus
from tapchanger_serving.build.failures import DISTILL_FIELD, StepError
from tapchanger_serving.build.torch_model import Headed
from tapchanger_serving.contract.distill import Distill, Epoch

Clock = Callable[[], float]

_WARM_UP = 0.1
_CLIP = 1.0
_POOL = 50
_SAID_EVERY = 5.0


@dataclass
class Budget:
    """The time that training may take, from now on, in seconds of `clock`."""

    seconds: float
    clock: Clock = time.monotonic
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock()

    def spent(self) -> float:
        """Seconds since the beginning."""
        return self.clock() - self.began

    def lasts(self, needed: float) -> bool:
        """Whether `needed` seconds are left."""
        return self.spent() + needed < self.seconds


@dataclass(frozen=True, slots=True)
class Trained:
    """What training came to; the student has the weights of epoch `best`."""

    epochs: tuple[Epoch, ...]
    best: int
    stopped_by_budget: bool


def rate(step: int, total: int) -> float:
    """Share of the learning rate at a step, from 0: it rises over the first tenth of the steps and falls evenly to zero."""
    warm_up = max(1, math.ceil(_WARM_UP * total))
    if step < warm_up:
        return (step + 1) / warm_up
    return max(0.0, (total - step) / max(1, total - warm_up))


def batches(lengths: Sequence[int], rows: Sequence[int], size: int, order: random.Random) -> Iterator[list[int]]:
    """One epoch of `rows` in random batches, each of texts of like length, so that little of it is padding."""
    shuffled = list(rows)
    order.shuffle(shuffled)
    cut: list[list[int]] = []
    for start in range(0, len(shuffled), size * _POOL):
        pool = sorted(shuffled[start : start + size * _POOL], key=lambda row: lengths[row])
        cut += [pool[at : at + size] for at in range(0, len(pool), size)]
    order.shuffle(cut)
    yield from cut


@dataclass
class Training:
    """A student at its teacher. `at_once` texts go through it at a time; a step of the optimizer may take several turns."""

    student: Headed
    teacher: Teacher
    corpus: Corpus
    wanted: Distill
    at_once: int
    budget: Budget
    _said: float = field(default=-math.inf, init=False)

    @property
    def _objective(self) -> Objective:
        return self.teacher.objective

    def run(self) -> Trained:
        """Trains until all epochs are done or the time is over. Raises `DistillDiverged` where losses are no numbers any more."""
        torch.manual_seed(self.wanted.seed)
        order = random.Random(self.wanted.seed)  # noqa: S311
        steps = math.ceil(len(self.corpus.training) / self.wanted.batch_size)
        total = steps * self.wanted.epochs
        optimizer = torch.optim.AdamW(
            self.student.parameters(), lr=self.wanted.learning_rate, weight_decay=0.0, fused=True
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, total))
        lengths = [int(length) for length in self.teacher.texts.lengths()]
        epochs = [self._held_out(0, None, self.budget.spent())]
        looking, best = epochs[0].seconds, self._weights()
        stopped = False
        while len(epochs) <= self.wanted.epochs and not stopped:
            number, began, losses, units = len(epochs), self.budget.spent(), 0.0, 0
            for rows in batches(lengths, self.corpus.training, self.wanted.batch_size, order):
                if not self.budget.lasts(looking):
                    stopped = True
                    break
                loss, count = self._step(rows, optimizer)
                schedule.step()
                losses, units = losses + loss, units + count
                self._say(schedule.last_epoch, total, number, losses / units)
            if not units:
                break
            epochs.append(self._held_out(number, losses / units, began, complete=not stopped))
            if epochs[-1].held_out_loss < min(epoch.held_out_loss for epoch in epochs[:-1]):
                best = self._weights()
        self.student.load_state_dict(best)
        self.student.eval()
        chosen = min(epochs, key=lambda epoch: epoch.held_out_loss).number
        return Trained(tuple(epochs), chosen, stopped)

    def _step(self, rows: list[int], optimizer: torch.optim.Optimizer) -> tuple[float, int]:
        """One step of the optimizer; the sum of the losses and the number of units."""
        self.student.train()
        turns = [self.teacher.batch(rows[at : at + self.at_once]) for at in range(0, len(rows), self.at_once)]
        units, losses = sum(sum(turn.counts) for turn in turns), 0.0
        optimizer.zero_grad(set_to_none=True)
        for turn in turns:
            loss = self._losses(turn)[0].sum()
            torch.autograd.backward(loss / units)
            losses += float(loss.detach())
        if not math.isfinite(losses):
            raise _diverged(f"a loss was {losses} while training")
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), _CLIP)
        optimizer.step()
        return losses, units

    def _losses(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """For each unit of the batch its loss, and how alike the answers are."""
        found = self._objective.units(self.student(*batch.inputs), batch.mask)
        wanted = self.teacher.answers(batch)
        return self._objective.losses(found, wanted), self._objective.alike(found.detach(), wanted)

    def _held_out(self, number: int, train_loss: float | None, began: float, *, complete: bool = True) -> Epoch:
        """How the student does on the held-out texts now."""
        self.student.eval()
        rows = sorted(self.corpus.held_out, key=lambda row: len(self.teacher.texts.encodings[row]))
        losses, alike, units = 0.0, 0.0, 0
        with torch.no_grad():
            for at in range(0, len(rows), self.at_once):
                each, same = self._losses(self.teacher.batch(rows[at : at + self.at_once]))
                losses, alike, units = losses + float(each.sum()), alike + float(same.sum()), units + len(each)
        if not math.isfinite(losses):
            raise _diverged("the student's answers to held-out texts were no numbers")
        embeds = self._objective.model.task == "feature-extraction"
        epoch = Epoch(
            number=number,
            train_loss=None if train_loss is None else round(train_loss, 6),
            held_out_loss=round(losses / units, 6),
            agreement=None if embeds else round(alike / units, 6),
            cosine=round(alike / units, 6) if embeds else None,
            seconds=round(self.budget.spent() - began, 2),
            complete=complete,
        )
        log.info("held-out texts answered", epoch=number, of_epochs=self.wanted.epochs, **_figures(epoch))
        return epoch

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.student.state_dict().items()}

    def _say(self, step: int, total: int, epoch: int, loss: float) -> None:
        if self.budget.spent() - self._said < _SAID_EVERY:
            return
        self._said = self.budget.spent()
        log.progress("training student", step, total, epoch=epoch, train_loss=round(loss, 5))


def _figures(epoch: Epoch) -> dict[str, object]:
    return epoch.model_dump(exclude={"number"}, exclude_none=True)


def _diverged(what: str) -> StepError:
    return StepError(
        "DistillDiverged",
        what,
        field=f"{DISTILL_FIELD}.learningRate",
        remedy="lower the learning rate, for example to a third",
    )
