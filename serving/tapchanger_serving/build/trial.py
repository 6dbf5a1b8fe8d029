"""Tries candidates: make, open, compare. One that fails is a result, not the end of the build."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace

from tapchanger_serving.build import choose, log
from tapchanger_serving.build.answers import Fidelity, Floats, answers, compare
from tapchanger_serving.build.candidates import Bench, Recipe, artifact_files
from tapchanger_serving.build.cost import Cost, engine_cost
from tapchanger_serving.build.heats import Heat, Heats
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.engines import EngineSpec, open_engine
from tapchanger_serving.engines.cpus import allowed_cpus

_HALVED_FROM = 4
"""From so many cores on, half of them are tried too: two threads of one core often do less than one alone."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate after it was tried: either how to open it, with figures and on which threads it may be best, or an error."""

    recipe: Recipe
    spec: EngineSpec | None = None
    heat: Heat | None = None
    fidelity: Fidelity = field(default_factory=Fidelity)
    cost: Cost | None = None
    size_bytes: int | None = None
    note: str | None = None
    error: str | None = None

    @property
    def threads(self) -> tuple[int, ...]:
        """The numbers of threads on which it may be best."""
        return tuple(self.heat.many) if self.heat else ()

    def opened(self, threads: int) -> EngineSpec:
        """How to open it on so many threads. Raises ValueError where the candidate failed."""
        if self.spec is None:
            raise ValueError(self.error)
        return replace(self.spec, threads=threads)


def attempt(recipe: Recipe, bench: Bench, texts: Encoded, reference: Floats, heats: Heats) -> Trial:
    """Makes a candidate, compares its answers with the reference's, and times it beside PyTorch. It is closed afterwards."""
    started = time.monotonic()
    try:
        trial = _tried(recipe, bench, texts, reference, heats)
    except Exception as error:  # noqa: BLE001 - whatever a runtime raises is this candidate's result, and is reported
        lines = str(error).strip().splitlines()
        taken = round(time.monotonic() - started, 2)
        log.warning("candidate failed", candidate=recipe.name, error=str(error), seconds=taken)
        return Trial(recipe, error=f"{type(error).__name__}: {lines[0] if lines else 'no message'}")
    log.info(
        "tried candidate",
        candidate=recipe.name,
        agreement=trial.fidelity.agreement,
        cosine=trial.fidelity.cosine,
        worst_cosine=trial.fidelity.worst_cosine,
        max_difference=trial.fidelity.max_difference,
        memory_mib=trial.cost.memory_mib if trial.cost else None,
        start_ms=trial.cost.start_ms if trial.cost else None,
        note=trial.note,
        seconds=round(time.monotonic() - started, 2),
    )
    return trial


def _tried(recipe: Recipe, bench: Bench, texts: Encoded, reference: Floats, heats: Heats) -> Trial:
    made = recipe.make(bench)
    spec = made.spec
    with ExitStack() as opened:
        engine = opened.enter_context(closing(open_engine(spec)))
        fidelity = compare(answers(engine.run, texts, bench.model), reference, bench.model)
        fewer = {n: opened.enter_context(closing(open_engine(replace(spec, threads=n)))) for n in _fewer(spec.runtime)}
        heat = heats.hold({0: engine.run, **{threads: way.run for threads, way in fewer.items()}})
        cost = engine_cost(spec, *heats.reference)
    size = sum(path.stat().st_size for path in artifact_files(spec).values())
    return Trial(recipe, spec, heat.without_losers(choose.NOISE), fidelity, cost, size, made.note)


def _fewer(runtime: str) -> Iterator[int]:
    """What to try beside all cores: small models and small batches are often faster on one of them."""
    cpus = 1 if runtime == "tensorrt" else allowed_cpus()
    if cpus >= _HALVED_FROM:
        yield cpus // 2
    if cpus > 1:
        yield 1
