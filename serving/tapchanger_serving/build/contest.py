"""All candidates' speeds: what the heats beside PyTorch said, and those that may win against each other over the surface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tapchanger_serving.build import choose, log, timing
from tapchanger_serving.build.choose import Arrangement, Way
from tapchanger_serving.build.heats import Heat
from tapchanger_serving.build.open_engines import Key, OpenEngines
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.build.timing import Point, Runner
from tapchanger_serving.build.trial import Trial
from tapchanger_serving.build.waited import Scheduled
from tapchanger_serving.contract.messages import BUSY, Candidate, Shapes, Timing
from tapchanger_serving.engines.text import Tensors

Times = Mapping[Key, Mapping[Point, Sequence[float]]]
"""Seconds of every call."""

_SURFACE = timing.Effort(min_rounds=7, max_rounds=200, seconds=2.0, margin=choose.BEHIND)
_MORE = 2
"""How often a point is measured once more while the node is busy: what is undisturbed is rarer then."""


@dataclass(frozen=True)
class Field:
    """Who takes part: the trials, and which of them may serve."""

    trials: Sequence[Trial]
    passed: Sequence[bool]
    texts: Encoded
    shapes: Shapes

    def hopeful(self) -> list[Key]:
        """The ways of those that may serve that were near the fastest in some part of their heats.

        What is far behind in all of them wins nowhere, and would only hold memory.
        """
        heats = {
            index: trial.heat
            for index, trial in enumerate(self.trials)
            if self.passed[index] and trial.heat is not None
        }
        near: set[Key] = set()
        for part in range(Heat.PARTS):
            taken: dict[Key, Sequence[float]] = {
                (index, threads): seconds
                for index, heat in heats.items()
                for threads, seconds in heat.parts[part].items()
            }
            near |= set(timing.near(list(taken), taken, choose.BEHIND)) if taken else set()
        return sorted(near)

    def batch(self, point: Point) -> Tensors:
        """A full batch of real tokens."""
        return timing.full_batch(self.texts, *point)


@dataclass(frozen=True)
class Contest:
    """What came out: the candidates with their figures, and each way to run one that raced.

    `waited` is the share of the time in which threads wanted a CPU and had none.
    """

    candidates: list[Candidate]
    torch_texts_per_second: float
    waited: float | None
    ways: tuple[Way, ...]
    times: Times

    def surface(self, arrangement: Arrangement) -> tuple[Timing, ...]:
        """The latency of an arrangement at every point."""
        return _surface({point: arrangement.at(point) for point in arrangement.large.speeds}, self.times)


def hold(field: Field, engines: OpenEngines) -> Contest:
    """Measures the hopeful ones, turn by turn."""
    before = Scheduled.now()
    times = _race(field, engines)
    after = Scheduled.now()
    ways = tuple(Way(*key, speeds=_speeds(points)) for key, points in times.items())
    reference = timing.reference_point(field.shapes)
    heats = [trial.heat for trial in field.trials if trial.heat is not None]
    torch = _speed(reference, [seconds for heat in heats for seconds in heat.torch]) if heats else 0.0
    candidates = [
        _with_heat(_candidate(index, field, ways, times), trial.heat, torch, reference)
        for index, trial in enumerate(field.trials)
    ]
    for candidate in candidates:
        figures = candidate.model_dump(exclude={"surface", "engine", "options"})
        log.info("measured candidate", torch_texts_per_second=round(torch, 1), **figures)
    return Contest(candidates, torch, after.share_since(before) if before and after else None, ways, times)


def _race(field: Field, engines: OpenEngines) -> Times:
    """The surface of all that may win, from small batches to large ones."""
    keys = field.hopeful()
    engines.keep(keys)
    runners: dict[Key, Runner] = {key: engines.get(key).run for key in keys}
    times: dict[Key, dict[Point, list[float]]] = {key: {} for key in runners}
    points = timing.grid(field.shapes) if runners else ()
    racing = list(runners)
    for number, point in enumerate(points, start=1):
        log.progress("measuring latency", number, len(points), batch=point[0], tokens=point[1], engines=len(racing))
        taken = _measured({key: runners[key] for key in racing}, field.batch(point))
        for key, seconds in taken.items():
            times[key][point] = seconds
        if timing.work(point) >= timing.SETTLED:
            racing = timing.near(racing, taken, _SURFACE.margin)
    return times


def _measured(runners: Mapping[Key, Runner], feeds: Tensors) -> dict[Key, list[float]]:
    """The times at one point, of more rounds where threads had to wait for a CPU while there was a choice between engines."""
    before = Scheduled.now()
    taken = timing.interleave(runners, feeds, _SURFACE)
    for _ in range(_MORE if len({index for index, _ in runners}) > 1 else 0):
        after = Scheduled.now()
        waited = after.share_since(before) if before and after else None
        if waited is None or waited < BUSY:
            break
        before = after
        for key, seconds in timing.interleave(runners, feeds, _SURFACE).items():
            taken[key] += seconds
    return taken


def _candidate(index: int, field: Field, ways: Sequence[Way], times: Times) -> Candidate:
    """A candidate with all but its speed at the reference point; its surface is that of its best way."""
    trial = field.trials[index]
    recipe = trial.recipe
    base = Candidate(
        runtime=recipe.runtime, precision=recipe.precision, student_layers=recipe.student_layers, error=trial.error
    )
    if trial.error is not None:
        return base
    best, own = choose.fastest(ways), [way for way in ways if way.candidate == index]
    way = max(own, key=lambda each: choose.score(each.speeds, best), default=None)
    found, cost = trial.fidelity, trial.cost
    return base.model_copy(
        update={
            "score": None if way is None else round(choose.score(way.speeds, best), 4),
            "threads": None if way is None else way.threads,
            "surface": None if way is None else _surface(dict.fromkeys(way.speeds, way), times),
            "memory_mib": cost and cost.memory_mib,
            "start_ms": cost and cost.start_ms,
            "size_bytes": trial.size_bytes,
            "note": trial.note,
            "agreement": _rounded(found.agreement),
            "cosine": _rounded(found.cosine),
            "max_difference": _rounded(found.max_difference),
            "passed": field.passed[index],
            "engine": trial.spec and trial.spec.file.name,
            "options": trial.spec and dict(trial.spec.options),
        }
    )


def _with_heat(candidate: Candidate, heat: Heat | None, torch: float, reference: Point) -> Candidate:
    """The speed at the reference point, and the latency of one text, on the threads that are best for each.

    The speed is so many times PyTorch's in the same turns; `torch` is PyTorch's in all of them.
    """
    if heat is None:
        return candidate
    share = torch / _speed(reference, heat.torch)
    speed = share * max(_speed(reference, seconds) for seconds in heat.many.values())
    delay = min(timing.median(seconds) for seconds in heat.single.values())
    return candidate.model_copy(update={"texts_per_second": round(speed, 2), "p50_ms": round(delay * 1e3, 3)})


def _surface(ways: Mapping[Point, Way], times: Times) -> tuple[Timing, ...]:
    return tuple(timing.timing(*point, times[way.candidate, way.threads][point]) for point, way in sorted(ways.items()))


def _speeds(points: Mapping[Point, Sequence[float]]) -> dict[Point, float]:
    return {point: _speed(point, seconds) for point, seconds in points.items()}


def _speed(point: Point, seconds: Sequence[float]) -> float:
    return point[0] / timing.undisturbed(seconds)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
