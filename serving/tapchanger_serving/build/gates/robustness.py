"""Robustness: how many answers flip when texts are perturbed, the engine's beside PyTorch's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tapchanger_serving.build.answers import Floats, Forward, outputs, same_labels, scored
from tapchanger_serving.build.dataset import Rows, evenly
from tapchanger_serving.build.exported import Exported
from tapchanger_serving.build.gates.perturb import perturbed, transposed, without
from tapchanger_serving.build.gates.resampling import wilson
from tapchanger_serving.build.gates.results import Evidence, at_most, unanswered
from tapchanger_serving.build.gates.samples import Mask
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.contract.evidence import Flips
from tapchanger_serving.contract.gates import PerturbationKind, RobustnessGate
from tapchanger_serving.contract.messages import GateResult
from tapchanger_serving.engines.text import Tokenizer

_TRIED = 12
"""Words of a text that are left out in turn to find the one with the largest effect."""
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that classifies texts."""

    forward: Forward
    model: Exported
    tokenizer: Tokenizer

    def scores(self, texts: Sequence[str], pairs: Sequence[str] | None) -> Floats:
        """Scores `[texts, labels]`."""
        rows = Rows(tuple(texts), None if pairs is None else tuple(pairs))
        encoded = Encoded.of(self.tokenizer, rows, self.model.max_batch_size)
        return scored(outputs(self.forward, encoded, self.model), self.model)

    def flipped(self, before: Floats, after: Floats) -> Mask:
        """Which answers differ."""
        return ~same_labels(before, after, several=self.model.multi_label)


def robustness(gate: RobustnessGate, rows: Rows, engine: Subject, reference: Subject) -> tuple[Flips, ...]:
    """Flips of each kind on the first of each pair of texts, spread evenly over the rows.

    For `words`, up to 12 words of each text are left out in turn; the one without which the engine's score falls most is
    then dropped, and swapped with its neighbour: an answer flips if either changes it. So a text costs 14 answers.
    """
    picked = evenly(len(rows), gate.texts)
    texts = [rows.texts[index] for index in picked]
    pairs = None if rows.pairs is None else [rows.pairs[index] for index in picked]
    numbers = rows.numbered()[picked]
    before = {subject: subject.scores(texts, pairs) for subject in (engine, reference)}
    found = []
    for kind in gate.kinds:
        variants = _variants(kind, texts, pairs, engine, before[engine])
        flips = {
            subject: np.any(
                [subject.flipped(before[subject], subject.scores(variant, pairs)) for variant in variants], axis=0
            )
            for subject in (engine, reference)
        }
        found.append(
            Flips(
                kind=kind,
                texts=len(texts),
                engine=round(float(flips[engine].mean()), 6),
                reference=round(float(flips[reference].mean()), 6),
                examples=tuple(int(number) for number in numbers[flips[engine]][:_EXAMPLES]),
            )
        )
    return tuple(found)


def _variants(
    kind: PerturbationKind, texts: list[str], pairs: list[str] | None, engine: Subject, before: Floats
) -> list[list[str]]:
    if kind != "words":
        return [[perturbed(kind, text, number) for number, text in enumerate(texts)]]
    weakest = _weakest(texts, pairs, engine, before)
    return [[change(text, word) for text, word in zip(texts, weakest, strict=True)] for change in (without, transposed)]


def _weakest(texts: list[str], pairs: list[str] | None, engine: Subject, before: Floats) -> list[int]:
    """For each text, the word without which the score of its label falls most (Jin et al. 2020, Is BERT Really Robust?)."""
    tried = [evenly(len(text.split()), _TRIED) for text in texts]
    owners = [owner for owner, words in enumerate(tried) for _ in words]
    if not owners:
        return [0] * len(texts)
    shortened = [without(text, word) for text, words in zip(texts, tried, strict=True) for word in words]
    scores = engine.scores(shortened, None if pairs is None else [pairs[owner] for owner in owners])
    labels = before.argmax(axis=1)
    left = scores[np.arange(len(owners)), labels[owners]]
    if before.shape[1] == 1:
        left = np.where(before[owners, 0] > 0.5, left, 1 - left)
    starts = np.cumsum([0, *(len(words) for words in tried)])
    return [
        words[int(left[starts[owner] : starts[owner + 1]].argmin())] if words else 0
        for owner, words in enumerate(tried)
    ]


def judge(gate: RobustnessGate, found: Sequence[Flips]) -> list[GateResult]:
    """Each kind's flips against the bound, if there is one."""
    if gate.max_flips is None:
        return []
    return [
        at_most(
            f"robustness {flips.kind}",
            Evidence(
                value=flips.engine,
                rows=flips.texts,
                interval=wilson(flips.engine, flips.texts),
                examples=flips.examples,
                detail=f"PyTorch flips {flips.reference:.4f}",
            ),
            gate.max_flips,
        )
        for flips in found
    ]


def unfit(gate: RobustnessGate, model: Exported) -> list[GateResult]:
    """The failed gate of a task that has no labels to flip."""
    if model.task == "text-classification":
        return []
    bound = "any" if gate.max_flips is None else f"≤ {gate.max_flips:g}"
    why = f"flips are those of labels of texts, and the task is {model.task}; leave robustness out"
    return [unanswered("robustness", bound, why)]
