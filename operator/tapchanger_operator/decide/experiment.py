"""Which arm of an experiment is best, looked at as often as one likes, and never a winner that the data don't support.

An outcome is a number from 0 to 1, and more is better: 1 for a request within its latency objective, or for one that was
answered, else 0; or a user's score. The statistics are in :mod:`.bounded` and :mod:`.best`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tapchanger_operator.decide.best import probability_of_best
from tapchanger_operator.decide.bounded import Difference, Kind, Tally, difference, exceeds, interval

Verdict = Literal["Running", "Winner", "NoDifference", "Inconclusive"]


@dataclass(frozen=True, slots=True)
class Settings:
    """`error` bounds the chance that a winner is ever declared that is not better than every other arm by `min_effect`.

    `min_requests` must have been seen of every arm before anything is declared.
    """

    kind: Kind
    error: float = 0.05
    min_effect: float = 0.0
    min_requests: int = 100


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """What is known of one arm. `difference` is against control, None for control itself and without outcomes."""

    tally: Tally
    interval: tuple[float, float]
    difference: Difference | None
    best: float


@dataclass(frozen=True, slots=True)
class Finding:
    """What the data say of an experiment."""

    verdict: Verdict
    winner: str | None
    message: str
    arms: Mapping[str, ArmFigures]


def analyse(control: str, tallies: Mapping[str, Tally], settings: Settings) -> Finding:
    """The figures of every arm and what they support. `tallies` has an entry for `control` and each variant.

    Each pair's interval holds with an error of `error / (arms - 1)`. That is enough for a winner: let b be an arm that no
    other one beats by more than `min_effect`. A false winner needs a miss in one of the arms - 1 intervals that have b in
    them, be it of the winner against b or, where b is itself the false winner, against the rest.
    """
    others = max(1, len(tallies) - 1)
    chances = probability_of_best(list(tallies.values()))
    figures = {
        arm: ArmFigures(
            tally=tally,
            interval=interval(tally, settings.kind),
            difference=None
            if arm == control or not (tally.count and tallies[control].count)
            else difference(tally, tallies[control], settings.kind, settings.error / others),
            best=chance,
        )
        for (arm, tally), chance in zip(tallies.items(), chances, strict=True)
    }
    verdict, winner, message = _verdict(control, tallies, settings, figures)
    return Finding(verdict, winner, message, figures)


def _verdict(
    control: str, tallies: Mapping[str, Tally], settings: Settings, figures: Mapping[str, ArmFigures]
) -> tuple[Verdict, str | None, str]:
    thin = [arm for arm, tally in tallies.items() if tally.count < settings.min_requests]
    if thin:
        seen = ", ".join(f"{arm} {tallies[arm].count}" for arm in thin)
        return "Running", None, f"each arm needs {settings.min_requests} outcomes; there are: {seen}"
    leader = max(tallies, key=lambda arm: tallies[arm].mean or 0.0)
    if beats_all(leader, tallies, settings):
        return "Winner", leader, f"{leader} is better than every other arm{_by(settings)}: {_means(tallies)}"
    if settings.min_effect > 0 and all_alike(control, tallies, settings):
        bound = _points(settings.min_effect)
        return "NoDifference", None, f"no arm differs from {control} by {bound} or more: {_means(tallies)}"
    chance = 100 * figures[leader].best
    return "Running", None, f"{leader} leads, and is best with a chance of {chance:.0f} %: {_means(tallies)}"


def beats_all(arm: str, tallies: Mapping[str, Tally], settings: Settings) -> bool:
    """Whether the difference of `arm` to every other arm is shown to be more than `min_effect`."""
    error = settings.error / max(1, len(tallies) - 1)
    return len(tallies) > 1 and all(
        exceeds(tallies[arm], tally, settings.kind, settings.min_effect, error)
        for other, tally in tallies.items()
        if other != arm
    )


def all_alike(control: str, tallies: Mapping[str, Tally], settings: Settings) -> bool:
    """Whether it is shown of every variant that it differs from `control` by less than `min_effect`, either way."""
    error = settings.error / max(1, len(tallies) - 1)
    return all(
        exceeds(first, second, settings.kind, -settings.min_effect, error)
        for other, tally in tallies.items()
        if other != control
        for first, second in ((tally, tallies[control]), (tallies[control], tally))
    )


def _means(tallies: Mapping[str, Tally]) -> str:
    return ", ".join(f"{arm} {100 * (tally.mean or 0.0):.4g} % of {tally.count}" for arm, tally in tallies.items())


def _by(settings: Settings) -> str:
    return f" by more than {_points(settings.min_effect)}" if settings.min_effect > 0 else ""


def _points(share: float) -> str:
    return f"{100 * share:.4g} points"
