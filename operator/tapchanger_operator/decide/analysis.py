"""The verdict on a canary, from counts of good and bad requests.

An objective is broken when its bad rate is above the budget `1 - target`. A canary fails only when two tests agree on
the same objective: one shows that its bad rate is above the budget, the other that it is worse than the stable
revision at the same time. Both are e-processes (:mod:`~tapchanger_operator.decide.sequential`), and each must reach
`objectives/false_alarm`.

What is promised: a canary that is always within all of its budgets, or never worse than the stable revision beside
it, fails ever with a probability of at most `false_alarm`, however often one looks. For a failure both tests must
cross (so the one whose null is true bounds the chance, and nothing is split between the two), and the objectives
share `false_alarm` equally (Bonferroni). Without a stable revision to compare with (weight 100, or it gets no
requests), the first half remains.

Nothing here reads a clock or keeps anything: state goes in and comes out. A look that was lost is made up for by the
next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from tapchanger_operator.decide import evidence, explain, sequential
from tapchanger_operator.decide.evidence import (
    AnalysisState,
    Counts,
    Evidence,
    Look,
    Objective,
    ObjectiveCounts,
    ObjectiveState,
    Settings,
    Verdict,
)

__all__ = [
    "AnalysisState",
    "Counts",
    "Evidence",
    "Look",
    "Objective",
    "ObjectiveCounts",
    "Settings",
    "Verdict",
    "analyse",
]

BATCH = 8
"""A comparison waits for so many requests, one on each side at least: smaller batches say too little of a difference.
"""

ODDS_TO_PASS = 10.0
"""How much better the budget must explain a step's requests than a breach worth catching does."""


def analyse(
    objectives: Sequence[Objective], look: Look, settings: Settings, state: AnalysisState
) -> tuple[Verdict, AnalysisState]:
    """The verdict on a canary at one look, and the state for the next.

    Call it as often as new data comes; `look.counts` never shrink unless the observer lost data, which is noticed and
    costs no more than the requests lost. Impossible input gives the verdict Error and leaves the state as it was.
    """
    wrong = explain.impossible(objectives, look, settings)
    if wrong:
        return Verdict("Error", evidence.INVALID_COUNTS, wrong), state
    counts = {objective.name: look.counts.get(objective.name, ObjectiveCounts()) for objective in objectives}
    silent = look.data_age is None or look.data_age > settings.stale_after
    log_threshold = math.log(len(objectives) / settings.false_alarm)
    known = {entry.key: entry for entry in state.objectives}
    gathered, entries = [], []
    for objective in objectives:
        before = _entry(objective, known.get(objective.key))
        seen = _remembered(before) if silent else counts[objective.name]
        after = _learn(objective, seen, before)
        gathered.append(_evidence(objective, seen, after, log_threshold, _comparable(seen, look, settings)))
        entries.append(_stored(before, after, log_threshold))
    verdict = _verdict(objectives, counts, look, settings, tuple(gathered))
    return verdict, AnalysisState(tuple(entries))


def _verdict(
    objectives: Sequence[Objective],
    counts: dict[str, ObjectiveCounts],
    look: Look,
    settings: Settings,
    gathered: tuple[Evidence, ...],
) -> Verdict:
    failed = [entry for entry in gathered if entry.failed]
    by_name = {objective.name: objective for objective in objectives}
    if failed:
        worst = max(failed, key=lambda entry: entry.e_value)
        message = explain.breach(by_name[worst.objective], worst)
        return Verdict("Fail", evidence.OBJECTIVE_BREACHED, message, gathered, worst.objective)
    if look.data_age is None or look.data_age > settings.stale_after:
        return _inconclusive(evidence.OBSERVER_SILENT, explain.silent(look, settings), look, settings, gathered)
    requests = min(seen.step_canary.requests for seen in counts.values())
    if all(seen.canary.requests == 0 for seen in counts.values()):
        return _inconclusive(
            evidence.NO_REQUESTS, "no request of the canary has been seen yet", look, settings, gathered
        )
    shared = [entry for entry in gathered if entry.over_budget]
    if shared:
        message = explain.shared(by_name[shared[0].objective], shared[0])
        return _inconclusive(evidence.NOT_SHOWN_WORSE, message, look, settings, gathered, shared[0].objective)
    if requests < settings.min_requests:
        message = explain.too_few(requests, settings.min_requests)
        return _inconclusive(evidence.TOO_FEW_REQUESTS, message, look, settings, gathered)
    for objective in objectives:
        step = counts[objective.name].step_canary
        if not supports(objective, step, settings.min_requests):
            message = explain.undecided(objective, step)
            return _inconclusive(evidence.UNDECIDED, message, look, settings, gathered, objective.name)
    return Verdict("Pass", evidence.OBJECTIVES_MET, explain.met(objectives, counts), gathered)


def supports(objective: Objective, step: Counts, min_requests: int) -> bool:
    """Whether a step's requests speak for the budget: what a Pass needs beside `min_requests`.

    The bad rate is within the budget (one bad request is forgiven, since one is no rate), and the requests are ten
    times likelier under the budget than under the breach worth catching (:func:`sequential.breach_worth_catching`). A
    canary whose rate is at that breach or above passes a step with a probability of at most 1/10, all looks taken
    together.
    """
    budget = objective.budget
    breach = sequential.breach_worth_catching(budget, min_requests)
    within = step.bad <= max(1.0, budget * step.requests + 1e-9)
    return within and sequential.acceptance(budget, breach, step.requests, step.bad) >= math.log(ODDS_TO_PASS)


def _inconclusive(
    reason: str,
    message: str,
    look: Look,
    settings: Settings,
    gathered: tuple[Evidence, ...],
    objective: str | None = None,
) -> Verdict:
    if look.elapsed >= settings.timeout:
        late = f"undecided after {explain.duration(settings.timeout)}: {message}"
        return Verdict("Inconclusive", evidence.TIMED_OUT, late, gathered, objective)
    return Verdict("Inconclusive", reason, message, gathered, objective)


def _entry(objective: Objective, known: ObjectiveState | None) -> ObjectiveState:
    """What is known of an objective; a fresh start where nothing is, or where it was gathered on another grid."""
    grid = len(sequential.budget_alternatives(objective.budget))
    odds = len(sequential.ODDS)
    if known and len(known.budget.log_wealth) == grid + 1 and len(known.versus.log_wealth) == odds + 1:
        return known
    return ObjectiveState(
        objective.key, (0, 0), (0, 0, 0, 0), sequential.Portfolio.fresh(grid), sequential.Portfolio.fresh(odds)
    )


def _remembered(state: ObjectiveState) -> ObjectiveCounts:
    """What was last seen, for a look at which the observer is silent."""
    return ObjectiveCounts(Counts(*state.seen), Counts(*state.compared[2:]))


def _learn(objective: Objective, seen: ObjectiveCounts, before: ObjectiveState) -> ObjectiveState:
    """Takes in the requests that are new since the last look."""
    canary = (seen.canary.requests, seen.canary.bad)
    both = (*canary, seen.stable.requests, seen.stable.bad)
    state = before
    batch = _new(canary, before.seen)
    if _lost(canary, before.seen):
        state = replace(state, seen=canary)
    elif batch[0] and batch[1] <= batch[0]:
        share = sequential.share_of(objective.budget * batch[0], objective.budget * canary[0])
        bets = sequential.budget_bets(objective.budget, *batch)
        state = replace(state, seen=canary, budget=sequential.settle(before.budget, bets, share))
    pair = _new(both, before.compared)
    if _lost(both, before.compared):
        return replace(state, compared=both)
    if pair[1] > pair[0] or pair[3] > pair[2] or not pair[0] or not pair[2] or pair[0] + pair[2] < BATCH:
        return state
    share = sequential.share_of(pair[1] + pair[3], both[1] + both[3])
    bets = sequential.comparison_bets((pair[0], pair[1]), (pair[2], pair[3]))
    return replace(state, compared=both, versus=sequential.settle(before.versus, bets, share))


def _new(now: tuple[int, ...], before: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(new - old for new, old in zip(now, before, strict=True))


def _lost(now: tuple[int, ...], before: tuple[int, ...]) -> bool:
    """Whether the observer has forgotten requests that it told of before."""
    return any(difference < 0 for difference in _new(now, before))


def _comparable(seen: ObjectiveCounts, look: Look, settings: Settings) -> bool:
    """Whether a stable revision serves beside the canary; one that gets nothing while the canary gets plenty does
    not.
    """
    silent = seen.step_stable.requests == 0 and seen.step_canary.requests >= settings.min_requests
    return look.weight < 100 and not silent


def _evidence(
    objective: Objective, seen: ObjectiveCounts, state: ObjectiveState, log_threshold: float, comparable: bool
) -> Evidence:
    return Evidence(
        objective=objective.name,
        canary=seen.canary,
        stable=seen.stable,
        budget_e=_finite_exp(state.budget.log_e),
        stable_e=_finite_exp(state.versus.log_e) if comparable else None,
        threshold=_finite_exp(log_threshold),
        interval=sequential.rate_interval(seen.canary.requests, seen.canary.bad),
    )


def _stored(before: ObjectiveState, after: ObjectiveState, log_threshold: float) -> ObjectiveState:
    """What is kept; portfolios that didn't change are left alone, for rounding down again would wear them away."""
    budget, versus = after.budget, after.versus
    if budget is not before.budget:
        budget = sequential.capped(budget, log_threshold)
    if versus is not before.versus:
        versus = sequential.capped(versus, log_threshold)
    return replace(after, budget=budget, versus=versus)


def _finite_exp(value: float) -> float:
    """exp that stays within what JSON can hold."""
    return math.exp(min(value, 700.0))
