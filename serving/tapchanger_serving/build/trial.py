"""Tries candidates: make, open, compare. One that fails is a result, not the end of the build."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

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
    fidelity: Fidelity = Fidelity()
    memory_mib: float | None = None
    error: str | None = None


def attempt(recipe: Recipe, bench: Bench, texts: Encoded, reference: Floats, feeds: Tensors) -> Trial:
    """Makes a candidate and compares its answers with the reference's; `feeds` is the reference batch."""
    started = time.monotonic()
    try:
        trial = _tried(recipe, bench, texts, reference, feeds)
    except Exception as error:  # noqa: BLE001 - whatever a runtime raises is this candidate's result, and is reported
        lines = str(error).strip().splitlines()
        log.warning("candidate failed", candidate=recipe.name, error=str(error))
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
    spec, engine = _with_best_threads(spec, feeds)
    batch, tokens = next(iter(feeds.values())).shape
    return Trial(
        recipe,
        spec,
        engine,
        compare(answers(engine.run, texts, bench.model), reference, bench.model.task),
        engine_memory_mib(spec, batch, tokens),
    )


def _with_best_threads(spec: EngineSpec, feeds: Tensors) -> tuple[EngineSpec, Engine]:
    """Small models are sometimes faster on one core than on all: both are tried, and all cores win a draw."""
    every = open_engine(spec)
    if spec.runtime == "tensorrt" or allowed_cpus() == 1:
        return spec, every
    single_spec = replace(spec, threads=1)
    single = open_engine(single_spec)
    taken = timing.interleave({"every": every.run, "single": single.run}, feeds, _BRIEF)
    if timing.median(taken["single"]) < timing.median(taken["every"]):
        every.close()
        return single_spec, single
    single.close()
    return spec, every
