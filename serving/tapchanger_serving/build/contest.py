"""All candidates' speeds: beside PyTorch at the reference point, then against each other over the whole surface."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tapchanger_serving.build import choose, log, timing
from tapchanger_serving.build.choose import Arrangement, Way
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.build.timing import Point, Runner
from tapchanger_serving.build.trial import Threaded, Trial, with_best_threads
from tapchanger_serving.build.waited import Scheduled
from tapchanger_serving.contract.messages import Candidate, Shapes, Timing
from tapchanger_serving.engines.text import Tensors

Key = tuple[int, int]
"""A candidate's place in the list, and its threads."""
Times = Mapping[Key, Mapping[Point, Sequence[float]]]
"""Seconds of every call."""

_TORCH: Key = (-1, 0)
_BESIDE_TORCH = timing.Effort(min_rounds=7, max_rounds=60, seconds=2.0)
_SURFACE = timing.Effort(min_rounds=7, max_rounds=200, seconds=2.0, margin=choose.BEHIND)


@dataclass(frozen=True)
class Field:
    """Who takes part: the trials, which of them pass parity, and PyTorch on a number of threads.

    What does not pass is timed at the reference point only.
    """

    trials: Sequence[Trial]
    passed: Sequence[bool]
    pytorch: Callable[[int], Threaded]
    texts: Encoded
    shapes: Shapes

    def runners(self, *, passed_only: bool) -> dict[Key, Runner]:
        """Every open engine."""
        return {
            (index, threads): engine.run
            for index, trial in enumerate(self.trials)
            if self.passed[index] or not passed_only
            for threads, engine in trial.engines.items()
        }

    def close_failed(self) -> None:
        """Frees the memory of engines that will not serve."""
        for trial, passed in zip(self.trials, self.passed, strict=True):
            for engine in trial.engines.values() if not passed else ():
                engine.close()

    def batch(self, point: Point) -> Tensors:
        """A full batch of real tokens."""
        return timing.full_batch(self.texts, *point)


@dataclass(frozen=True)
class Contest:
    """What came out: the candidates with their figures, and each way to run one that passes parity.

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


def hold(field: Field) -> Contest:
    """Measures all of them, turn by turn."""
    before = Scheduled.now()
    reference = timing.reference_point(field.shapes)
    everyone = field.runners(passed_only=False)
    everyone[_TORCH] = with_best_threads(field.pytorch, field.batch(reference)).run
    log.info("timing engines beside PyTorch", engines=[trial.recipe.name for trial in field.trials], point=reference)
    many = timing.interleave(everyone, field.batch(reference), _BESIDE_TORCH)
    single = timing.interleave(everyone, field.batch((1, reference[1])), _BESIDE_TORCH)
    field.close_failed()
    times = _race(field)
    ways = tuple(Way(*key, speeds=_speeds(points)) for key, points in times.items())
    after = Scheduled.now()
    torch = _speed(reference, many[_TORCH])
    candidates = [_candidate(index, field, ways, times) for index in range(len(field.trials))]
    candidates = [
        _with_reference(candidate, _own(index, many), _own(index, single), reference)
        for index, candidate in enumerate(candidates)
    ]
    for candidate in candidates:
        figures = candidate.model_dump(exclude={"surface"})
        log.info("measured candidate", torch_texts_per_second=round(torch, 1), **figures)
    return Contest(candidates, torch, after.share_since(before) if before and after else None, ways, times)


def _race(field: Field) -> Times:
    """The surface of all that pass, from small batches to large ones."""
    runners = field.runners(passed_only=True)
    times: dict[Key, dict[Point, list[float]]] = {key: {} for key in runners}
    points = timing.grid(field.shapes) if runners else ()
    racing = list(runners)
    for number, point in enumerate(points, start=1):
        log.progress("measuring latency", number, len(points), batch=point[0], tokens=point[1], engines=len(racing))
        taken = timing.interleave({key: runners[key] for key in racing}, field.batch(point), _SURFACE)
        for key, seconds in taken.items():
            times[key][point] = seconds
        if timing.work(point) >= timing.SETTLED:
            racing = timing.near(racing, taken, _SURFACE.margin)
    return times


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
        }
    )


def _with_reference(
    candidate: Candidate, many: Sequence[Sequence[float]], single: Sequence[Sequence[float]], reference: Point
) -> Candidate:
    """The speed at the reference point, and the latency of one text, on the threads that are best for each."""
    if not many:
        return candidate
    speed = max(_speed(reference, seconds) for seconds in many)
    delay = min(timing.median(seconds) for seconds in single)
    return candidate.model_copy(update={"texts_per_second": round(speed, 2), "p50_ms": round(delay * 1e3, 3)})


def _own(index: int, taken: Mapping[Key, Sequence[float]]) -> list[Sequence[float]]:
    return [seconds for key, seconds in taken.items() if key[0] == index]


def _surface(ways: Mapping[Point, Way], times: Times) -> tuple[Timing, ...]:
    return tuple(timing.timing(*point, times[way.candidate, way.threads][point]) for point, way in sorted(ways.items()))


def _speeds(points: Mapping[Point, Sequence[float]]) -> dict[Point, float]:
    return {point: _speed(point, seconds) for point, seconds in points.items()}


def _speed(point: Point, seconds: Sequence[float]) -> float:
    return point[0] / timing.undisturbed(seconds)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
