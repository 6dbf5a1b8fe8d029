"""One monitor for all features, with a stated mean time between false alarms.

For each bet it keeps a Shiryaev–Roberts statistic of e-values, `R ← (R + 1) E`: a new gambler comes with every step and stakes 1
against the reference, so that a change is noticed whenever it begins. Without a change `R` grows by at most 1 a step on average,
so the mean of all bets reaches A after A steps or later on average, whatever the dependence between features (Shin, Ramdas,
Rinaldo 2023, "E-detectors", theorem 2.4). A step is ten seconds in which texts came; steps without do not count.

What the steps are made of is not independent either: users come in sessions. How much more neighbouring steps differ than
independent texts would is measured as the traffic goes (von Neumann's mean square successive difference, 1941), and evidence
counts for so much less. No single step can reach A alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tapchanger_operator.decide.drift.bets import bet_count, bets, log_e, log_e_pooled, pooled, weights
from tapchanger_operator.decide.drift.coarse import Coarse
from tapchanger_operator.decide.sequential import log_sum_exp
from tapchanger_serving.contract.drift import BY_NAME

NOTHING: Final = -30.0
"""Log of a statistic that is as good as 0."""
BEYOND: Final = 3.0
"""How far beyond log A the statistic may grow, so that it comes back when a drift is over."""
LARGEST_STEP: Final = 0.5
"""The part of log A that one step may bring."""
MEMORY: Final = 0.03
"""Weight of the newest step in the measured effect of dependence."""
WARMING: Final = 3
"""Steps at the beginning that only teach how dependent texts are."""
SURPRISE: Final = 6.0
"""One step may count for at most so many times the effect measured before: a sudden change is no dependence."""
LONGEST_RUN: Final = 20.0
INPUTS: Final = frozenset({"tokens", "vocabulary", "embedding"})
"""Features of the texts themselves; the others are of the answers."""


@dataclass(frozen=True)
class Track:
    """One signal. `logs` has the log of the statistic of each bet. `effect` is how much neighbouring steps differ, 1 where texts
    are independent; `mean` and `texts` are the last step's. `run` is the log likelihood of a change, which began at
    `since`. `steps` counts up to where all steps weigh alike. `pool` is the traffic so far by bin.
    """

    logs: tuple[float, ...]
    effect: float = 1.0
    mean: float = 0.0
    texts: int = 0
    run: float = 0.0
    since: int = 0
    steps: int = 0
    pool: tuple[int, ...] = ()

    def wire(self) -> list[Any]:
        """As status has it."""
        return [
            [*self.logs],
            self.effect,
            self.mean,
            self.texts,
            self.run,
            self.since,
            self.steps,
            [*self.pool],
        ]

    @staticmethod
    def read(told: Sequence[Any]) -> Track:
        """From what :meth:`wire` wrote. Raises ValueError or TypeError."""
        logs, effect, mean, texts, run, since, steps, pool = told
        values, counts = tuple(float(value) for value in logs), tuple(int(count) for count in pool)
        return Track(values, float(effect), float(mean), int(texts), float(run), int(since), int(steps), counts)


@dataclass(frozen=True)
class Monitor:
    """All signals, and whether an alarm stands."""

    tracks: Mapping[str, Track] = field(default_factory=dict)
    alarmed: bool = False

    def evidence(self, reference: Mapping[str, Coarse]) -> float:
        """Log of the statistic of all bets together."""
        return _total(self.tracks, weights(dict(reference)))


def begin(reference: Mapping[str, Coarse]) -> Monitor:
    """A monitor that has seen nothing."""
    return Monitor({name: Track((NOTHING,) * bet_count(coarse)) for name, coarse in reference.items()})


def fits(monitor: Monitor, reference: Mapping[str, Coarse]) -> bool:
    """Whether the monitor is one of this reference, as bets change with a release of the operator."""
    return set(monitor.tracks) == set(reference) and all(
        len(track.logs) == bet_count(reference[name]) for name, track in monitor.tracks.items()
    )


def take(
    monitor: Monitor,
    reference: Mapping[str, Coarse],
    step: Mapping[str, Sequence[int]],
    at: int,
    log_threshold: float,
    *,
    pools: bool = True,
) -> Monitor:
    """The monitor after a step that began at `at` (Unix seconds), of which `step` has the texts by signal and bin. With `pools`
    they are laid beside the traffic so far as well, and become part of it. An alarm makes it begin anew.

    It alarms at `log_threshold`, and the alarm is over when the evidence has fallen to the square root of that.
    """
    tracks = dict(monitor.tracks)
    for name, counts in step.items():
        if name in tracks and any(counts):
            pool = _pool(tracks[name], reference[name], counts) if pools else None
            after = _track(tracks[name], reference[name], counts, pool, at, log_threshold)
            grows = pools and pooled(reference[name]) and not monitor.alarmed
            tracks[name] = replace(after, pool=_added(tracks[name].pool, counts)) if grows else after
    parts = weights(dict(reference))
    excess = max(0.0, _total(tracks, parts) - log_threshold - BEYOND)
    if excess:
        tracks = {name: replace(one, logs=tuple(value - excess for value in one.logs)) for name, one in tracks.items()}
    found = _total(tracks, parts)
    alarmed = found >= log_threshold or (monitor.alarmed and found > log_threshold / 2)
    if alarmed:
        # The traffic so far has moved: beside it texts like the reference would look like another drift.
        tracks = {name: replace(track, pool=()) for name, track in tracks.items()}
    return Monitor({name: _rounded(track) for name, track in tracks.items()}, alarmed)


def _pool(track: Track, coarse: Coarse, counts: Sequence[int]) -> tuple[int, ...]:
    """The reference's texts, the traffic so far and a step."""
    return _added(_added(track.pool, coarse.counts), counts)


def _added(some: Sequence[int], more: Sequence[int]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(some, more, strict=True)) if some else tuple(more)


def _track(
    track: Track, coarse: Coarse, counts: Sequence[int], pool: Sequence[int] | None, at: int, log_threshold: float
) -> Track:
    texts = sum(counts)
    mean = sum(n * score for n, score in zip(counts, coarse.scores, strict=True)) / texts
    if track.steps < WARMING:
        return replace(track, effect=_effect(track, mean, texts), mean=mean, texts=texts, steps=track.steps + 1)
    effect = max(1.0, track.effect)
    found = [log_e(bet, counts, effect) for bet in bets(coarse)]
    found += [log_e_pooled(bet, counts, pool, effect) for bet in pooled(coarse)] if pool else []
    gains = [min(gain, LARGEST_STEP * log_threshold) for gain in found]
    logs = tuple(_joined(value) + gain for value, gain in zip(track.logs, gains, strict=False))
    # Without a pool nobody bets on it: what was won gives nobody a reason any more, and later steps begin anew.
    logs += (NOTHING,) * (len(track.logs) - len(gains))
    together = log_sum_exp(gains) - math.log(len(gains))
    return Track(
        logs=logs,
        effect=_effect(track, mean, texts),
        mean=mean,
        texts=texts,
        run=min(max(track.run, 0.0) + together, LONGEST_RUN),
        since=track.since if track.run > 0.0 else at,
        steps=min(track.steps + 1, int(1 / MEMORY)),
        pool=track.pool,
    )


def _effect(track: Track, mean: float, texts: int) -> float:
    """The measured effect with one more pair of neighbours, whose means differ by a variance of 1/n + 1/m where texts are
    independent.
    """
    if not track.texts:
        return track.effect
    seen = (mean - track.mean) ** 2 / (1 / texts + 1 / track.texts)
    part = max(MEMORY, 1 / (track.steps + 2))
    return (1 - part) * track.effect + part * min(seen, SURPRISE * max(track.effect, 1.0))


def _joined(value: float) -> float:
    """log(R + 1)."""
    return value + math.log1p(math.exp(-value)) if value > 0.0 else math.log1p(math.exp(value))


def _rounded(track: Track) -> Track:
    """As it is kept between passes, so that it is the same however many steps a pass takes. Evidence is rounded down: what is
    kept is never more than was earned.
    """
    logs = tuple(max(math.floor(value * 1e3) / 1e3, NOTHING) for value in track.logs)
    effect, mean, run = round(track.effect, 3), round(track.mean, 4), round(track.run, 3)
    return replace(track, logs=logs, effect=effect, mean=mean, run=run)


def _total(tracks: Mapping[str, Track], parts: Mapping[str, float]) -> float:
    found = [math.log(parts[name]) + value for name, track in tracks.items() for value in track.logs]
    return log_sum_exp(found) if found else NOTHING


@dataclass(frozen=True)
class Culprit:
    """The signal that moved most, its feature, and when it began to (Unix seconds)."""

    feature: str
    signal: str
    since: int


def culprit(monitor: Monitor, reference: Mapping[str, Coarse]) -> Culprit | None:
    """What most of the evidence is about; None where nothing is watched."""
    parts = weights(dict(reference))
    by_signal = {
        name: math.log(parts[name]) + log_sum_exp(track.logs) for name, track in monitor.tracks.items() if track.logs
    }
    if not by_signal:
        return None
    features = {BY_NAME[name].feature for name in by_signal}
    by_feature = {
        feature: log_sum_exp([value for name, value in by_signal.items() if BY_NAME[name].feature == feature])
        for feature in features
    }
    feature = max(sorted(by_feature), key=lambda one: by_feature[one])
    signal = max((name for name in by_signal if BY_NAME[name].feature == feature), key=lambda one: by_signal[one])
    return Culprit(feature, signal, monitor.tracks[signal].since)


def moved(monitor: Monitor, reference: Mapping[str, Coarse], log_threshold: float) -> frozenset[str]:
    """Features each of which alone would have caused the alarm."""
    parts = weights(dict(reference))
    found = set()
    for feature in {BY_NAME[name].feature for name in monitor.tracks}:
        mine = {name: track for name, track in monitor.tracks.items() if BY_NAME[name].feature == feature}
        if _total(mine, parts) >= log_threshold:
            found.add(feature)
    return frozenset(found)
