"""Goes through recorded rollouts again with the operator's own code, look by look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tapchanger_operator.api.base import timestamp
from tapchanger_operator.api.status import CanaryStatus, RevisionStatus
from tapchanger_operator.decide.analysis import (
    AnalysisState,
    Counts,
    Objective,
    ObjectiveCounts,
    Verdict,
    analyse,
)
from tapchanger_operator.decide.analysis import Look as AnalysisLook
from tapchanger_operator.decide.rollout import Seen, advance, watched
from tapchanger_operator.decide.state import Judgement, State, Target
from tapchanger_operator.snapshot import Servers
from tests.bench.decisions.cases import ERROR_BUDGET, LATENCY_BUDGET
from tests.bench.decisions.delivery import POLICY, SETTINGS, Look

OBJECTIVES: Final = (
    Objective("99% within 250ms", "latency", 1.0 - LATENCY_BUDGET, 0.25),
    Objective("99.9% available", "availability", 1.0 - ERROR_BUDGET),
)
START: Final = 1_700_000_000.0
OLD, NEW = "old", "new"
SERVERS: Final = {name: Servers(replicas=1, ready=1, available=True) for name in (OLD, NEW)}
SIX: Final = (0, 0, 0, 0, 0, 0)

Tally = tuple[int, int, int, int, int, int]
"""Requests, bad for latency, failed: first the canary's, then the stable revision's."""


@dataclass
class Replay:
    """One rollout by the operator's code. `rolled_back` and `weight` tell how it stands."""

    state: State = field(init=False)
    analysis: AnalysisState = field(default_factory=AnalysisState)
    whole: Tally = SIX
    step: Tally = SIX
    mark: tuple[object, ...] = ()

    def __post_init__(self) -> None:
        old = RevisionStatus(revision=OLD, build=OLD, uri=OLD, weight=100, since=timestamp(START - 3600))
        early = timestamp(START - 60)
        new = CanaryStatus(revision=NEW, build=NEW, uri=NEW, created_at=early, available_at=early)
        self.state = State(stable=old, canary=new)
        self._advance(0, None)

    @property
    def weight(self) -> int:
        """The new revision's share in percent."""
        return self.state.weights().get(NEW, 0)

    @property
    def rolled_back(self) -> bool:
        return self.state.is_rejected(NEW)

    def look(self, seen: Look) -> Verdict | None:
        """One second's requests, and the verdict where the operator looks after it."""
        new = (*seen.canary, *seen.stable)
        self.whole = _sum(self.whole, new)
        self.step = _sum(self.step, new)
        if not seen.judged:
            return None
        canary, watching = self.state.canary, watched(POLICY, self.state)
        elapsed = canary.elapsed(START + seen.second) if canary else 0.0
        counts = {
            objective.name: _counts(self.whole, self.step, index + 1) for index, objective in enumerate(OBJECTIVES)
        }
        settings = replace(SETTINGS, patience=0.0) if canary and canary.suspicions else SETTINGS
        if watching:
            settings = replace(settings, timeout=float("inf"))
        look = AnalysisLook(counts, self.weight, elapsed)
        verdict, self.analysis = analyse(OBJECTIVES, look, settings, self.analysis)
        self._advance(seen.second, Judgement(verdict.result, verdict.reason, verdict.message))
        return verdict

    def _advance(self, second: int, judgement: Judgement | None) -> None:
        now = START + second
        watching = watched(POLICY, self.state)
        seen = Seen(
            Target(NEW, NEW, NEW),
            SERVERS,
            judgement=None if watching else judgement,
            watch=judgement if watching else None,
        )
        self.state = advance(POLICY, self.state, seen, now).state
        canary, stable = self.state.canary, self.state.stable
        test = canary.since if canary else stable.since if stable else None
        step = (canary.step, canary.step_started_at) if canary else None
        if (test, canary is None) != self.mark[:2]:
            self.analysis, self.whole, self.step = AnalysisState(), SIX, SIX
        elif step != self.mark[2]:
            self.step = SIX
        self.mark = (test, canary is None, step)


def differs(looks: Sequence[Look], rolled_back: bool) -> str | None:
    """What the operator's code does otherwise than recorded: the first look at which, or None."""
    replay = Replay()
    for look in looks:
        if replay.weight != look.weight:
            return f"before second {look.second}: weight {replay.weight} instead of {look.weight}"
        replay.look(look)
    if replay.rolled_back != rolled_back:
        return f"after second {looks[-1].second}: rolled back is {replay.rolled_back}"
    return None


def _counts(whole: Tally, step: Tally, index: int) -> ObjectiveCounts:
    return ObjectiveCounts(
        Counts(whole[0], whole[index]),
        Counts(whole[3], whole[3 + index]),
        Counts(step[0], step[index]),
        Counts(step[3], step[3 + index]),
    )


def _sum(one: Tally, other: Tally) -> Tally:
    first, second, third, fourth, fifth, sixth = (a + b for a, b in zip(one, other, strict=True))
    return first, second, third, fourth, fifth, sixth
