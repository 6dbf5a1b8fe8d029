"""Tries candidates: make, open, compare. One that fails is a result, not the end of the build."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from tapchanger_serving.build import choose, log, timing
from tapchanger_serving.build.answers import Fidelity, Floats, answers, compare
from tapchanger_serving.build.candidates import Bench, Recipe, artifact_files
from tapchanger_serving.build.cost import Cost, engine_cost
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.engines import Engine, EngineSpec, open_engine
from tapchanger_serving.engines.cpus import allowed_cpus
from tapchanger_serving.engines.text import Tensors

_BRIEF = timing.Effort(min_rounds=5, max_rounds=30, seconds=0.5)
_SHORT = 16
_HALVED_FROM = 4
"""From so many cores on, half of them are tried too: two threads of one core often do less than one alone."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate after it was tried: either open engines, by their threads, with figures, or an error."""

    recipe: Recipe
    spec: EngineSpec | None = None
    engines: Mapping[int, Engine] = field(default_factory=dict)
    fidelity: Fidelity = field(default_factory=Fidelity)
    cost: Cost | None = None
    size_bytes: int | None = None
    note: str | None = None
    error: str | None = None

    @property
    def engine(self) -> Engine:
        """One of the engines; all answer alike. Raises ValueError where the candidate failed."""
        if not self.engines:
            raise ValueError(self.error)
        return next(iter(self.engines.values()))

    def opened(self, threads: int) -> EngineSpec:
        """How to open it on so many threads. Raises ValueError where the candidate failed."""
        if self.spec is None:
            raise ValueError(self.error)
        return replace(self.spec, threads=threads)


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


def _tried(recipe: Recipe, bench: Bench, texts: Encoded, reference: Floats, feeds: Tensors) -> Trial:
    made = recipe.made(bench)
    spec = made.spec
    engine = open_engine(spec)
    fidelity = compare(answers(engine.run, texts, bench.model), reference, bench.model)
    engines = {0: engine} | {threads: open_engine(replace(spec, threads=threads)) for threads in _fewer(spec.runtime)}
    return Trial(
        recipe,
        spec,
        _without_losers(engines, feeds),
        fidelity,
        engine_cost(spec, *next(iter(feeds.values())).shape),
        sum(path.stat().st_size for path in artifact_files(spec).values()),
        made.note,
    )


def _fewer(runtime: str) -> Iterator[int]:
    """What to try beside all cores: small models and small batches are often faster on one of them."""
    cpus = 1 if runtime == "tensorrt" else allowed_cpus()
    if cpus >= _HALVED_FROM:
        yield cpus // 2
    if cpus > 1:
        yield 1


def _without_losers(engines: dict[int, Engine], feeds: Tensors) -> dict[int, Engine]:
    """Closes, for the memory they take, those that are the fastest neither with the whole batch nor with a short text."""
    if len(engines) == 1:
        return engines
    short = {name: tensor[:1, :_SHORT] for name, tensor in feeds.items()}
    kept = set()
    for batch in (feeds, short):
        taken = timing.interleave({threads: engine.run for threads, engine in engines.items()}, batch, _BRIEF)
        speeds = {threads: timing.undisturbed(seconds) for threads, seconds in taken.items()}
        kept |= {threads for threads, seconds in speeds.items() if seconds <= (1 + choose.NOISE) * min(speeds.values())}
    for threads in engines.keys() - kept:
        engines.pop(threads).close()
    return engines


class Threaded(Protocol):
    """Something that runs on a fixed number of threads."""

    def run(self, feeds: Tensors) -> Floats:
        """One forward pass."""
        ...


ThreadedT = TypeVar("ThreadedT", bound=Threaded)


def with_best_threads(make: Callable[[int], ThreadedT], feeds: Tensors) -> ThreadedT:
    """PyTorch gets the same chance as the engines, so that its speed is a fair baseline; all cores (0) win a draw."""
    every = make(0)
    if allowed_cpus() == 1:
        return every
    single = make(1)
    taken = timing.interleave({"every": every.run, "single": single.run}, feeds, _BRIEF)
    return single if timing.undisturbed(taken["single"]) < timing.undisturbed(taken["every"]) else every
