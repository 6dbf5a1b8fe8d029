"""Tries candidates: make, open, compare. One that fails is a result, not the end of the build."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from tapchanger_serving.build import log, timing
from tapchanger_serving.build.answers import Fidelity, Floats, answers, compare
from tapchanger_serving.build.candidates import Bench, Recipe
from tapchanger_serving.build.memory import engine_memory_mib
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.engines import Engine, EngineSpec, open_engine
from tapchanger_serving.engines.cpus import allowed_cpus
from tapchanger_serving.engines.text import Tensors

_BRIEF = timing.Effort(min_rounds=5, max_rounds=30, seconds=1.0)


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate after it was tried: either an open engine with its figures, or an error."""

    recipe: Recipe
    spec: EngineSpec | None = None
    engine: Engine | None = None
    fidelity: Fidelity = field(default_factory=Fidelity)
    memory_mib: float | None = None
    error: str | None = None


def attempt(recipe: Recipe, bench: Bench, texts: Encoded, reference: Floats, feeds: Tensors) -> Trial:
    """Makes a candidate and compares its answers with the reference's; `feeds` is the reference batch."""
    started = time.monotonic()
    try:
        trial = _tried(recipe, bench, texts, reference, feeds)
    except Exception as error:  # noqa: BLE001 - whatever a runtime raises is this candidate's result, and is reported
        lines = str(error).strip().splitlines()
        taken = round(time.monotonic() - started, 2)
        log.warning("candidate failed", candidate=recipe.name, error=str(error), seconds=taken)
        return Trial(recipe, error=f"{type(error).__name__}: {lines[0] if lines else 'no message'}")
    log.info(
        "tried candidate",
        candidate=recipe.name,
        threads=trial.spec.threads if trial.spec else None,
        agreement=trial.fidelity.agreement,
        cosine=trial.fidelity.cosine,
        worst_cosine=trial.fidelity.worst_cosine,
        max_difference=trial.fidelity.max_difference,
        memory_mib=trial.memory_mib,
        seconds=round(time.monotonic() - started, 2),
    )
    return trial


def _tried(recipe: Recipe, bench: Bench, texts: Encoded, reference: Floats, feeds: Tensors) -> Trial:
    spec = recipe.make(bench)
    opened = with_best_threads(lambda threads: _Opened(replace(spec, threads=threads)), feeds)
    batch, tokens = next(iter(feeds.values())).shape
    return Trial(
        recipe,
        opened.spec,
        opened.engine,
        compare(answers(opened.run, texts, bench.model), reference, bench.model),
        engine_memory_mib(opened.spec, batch, tokens),
    )


class Threaded(Protocol):
    """Something that runs on a fixed number of threads."""

    def run(self, feeds: Tensors) -> Floats:
        """One forward pass."""
        ...


class _Opened:
    """An open engine together with how it was opened."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.engine = open_engine(spec)

    def run(self, feeds: Tensors) -> Floats:
        return self.engine.run(feeds)


ThreadedT = TypeVar("ThreadedT", bound=Threaded)


def with_best_threads(make: Callable[[int], ThreadedT], feeds: Tensors) -> ThreadedT:
    """Small models are sometimes faster on one core than on all: both are tried, and all cores (0) win a draw.

    PyTorch gets the same chance as the engines, so that its speed is a fair baseline.
    """
    every = make(0)
    if allowed_cpus() == 1:
        return every
    single = make(1)
    taken = timing.interleave({"every": every.run, "single": single.run}, feeds, _BRIEF)
    return single if timing.median(taken["single"]) < timing.median(taken["every"]) else every
