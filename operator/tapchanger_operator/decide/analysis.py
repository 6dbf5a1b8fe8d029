"""The verdict on a canary, from counts of good and bad requests.

An objective is broken when its bad rate is above the budget `1 - target`. Two tests speak against a canary on each
objective: one that its bad rate is above the budget, one that it is worse than the stable revision at the same time.
Both are e-processes (:mod:`~tapchanger_operator.decide.sequential`); the smaller counts, since both must be shown, and a
canary fails when these sum to `objectives/false_alarm`.

What is promised: a canary that on each objective is always within the budget, or never worse than the stable revision
beside it, fails ever with a probability of at most `false_alarm`, however often one looks. On each objective the smaller
e-value is at most that of the test whose null is true. The mean of e-processes is an e-process whatever their
dependence (Vovk and Wang 2021, "E-values: calibration, combination and applications", section 3), so by Ville's
inequality the mean over the objectives reaches `1/false_alarm` with at most that probability. Where one fault shows in
several objectives (failed requests miss latencies too), this decides sooner than Bonferroni's correction, and never
later. Without a stable revision to compare with (weight 100, or it gets no requests), the first test alone remains.

Nothing here reads a clock or keeps anything: state goes in and comes out. A look that was lost is made up for by the
next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from tapchanger_operator.decide import blocks, evidence, explain, sequential
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
    added,
    lost,
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

BATCH = 20
"""A comparison takes at least so many requests of both sides together: what a canary's request has beside it at 5 %."""

POOL = 400
"""A batch without a bad request stays open until it has so many: the first bad one is then one of many, which says more."""

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
        before = _entry(objective, look.weight, known.get(objective.key))
        seen = _remembered(before) if silent else counts[objective.name]
        after = before if silent else blocks.learn(objective, seen, look, before)
        after = _learn(objective, seen, look, after)
        gathered.append(_evidence(objective, seen, after, log_threshold, _comparable(objective, seen, look, settings)))
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
    by_name = {objective.name: objective for objective in objectives}
    worst = max(gathered, key=lambda entry: entry.e_value)
    together = math.fsum(entry.e_value for entry in gathered)
    if together >= worst.threshold:
        message = explain.breach(by_name[worst.objective], worst, together)
        return Verdict("Fail", evidence.OBJECTIVE_BREACHED, message, gathered, worst.objective)
    if look.data_age is None or look.data_age > settings.stale_after:
        return _inconclusive(evidence.OBSERVER_SILENT, explain.silent(look, settings), look, settings, gathered)
    asked = [counts[objective.name] for objective in objectives if not objective.labelled]
    requests = min((seen.step_canary.requests for seen in asked), default=settings.min_requests)
    if asked and all(seen.canary.requests == 0 for seen in counts.values()):
        return _inconclusive(
            evidence.NO_REQUESTS, "no request of the canary has been seen yet", look, settings, gathered
        )
    shared = [entry for entry in gathered if entry.over_budget]
    if shared:
        message = explain.shared(by_name[shared[0].objective], shared[0])
        return _inconclusive(evidence.NOT_SHOWN_WORSE, message, look, settings, gathered, shared[0].objective)
    if asked and not _enough(requests, look, settings):
        message = explain.too_few(requests, look, settings)
        return _inconclusive(evidence.TOO_FEW_REQUESTS, message, look, settings, gathered)
    for objective in objectives:
        step = counts[objective.name].step_canary
        if objective.labelled and step.requests < objective.min_labels:
            message = explain.too_few_labels(objective, step)
            return _inconclusive(evidence.TOO_FEW_LABELS, message, look, settings, gathered, objective.name)
        if not supports(objective, step, settings, look.elapsed):
            message = explain.undecided(objective, step)
            return _inconclusive(evidence.UNDECIDED, message, look, settings, gathered, objective.name)
    return Verdict("Pass", evidence.OBJECTIVES_MET, explain.met(objectives, counts), gathered)


def supports(objective: Objective, step: Counts, settings: Settings, elapsed: float) -> bool:
    """Whether a step's requests speak for the budget: what a Pass needs beside `min_requests`.

    The bad rate is within the budget (one bad request is forgiven, since one is no rate), and the requests are ten
    times likelier under the budget than under a breach: a fine one (:func:`sequential.fine_breach`) at any time, or,
    since thin traffic can't tell that fine, the one worth catching (:func:`sequential.breach_worth_catching`) once
    `patience` is over, and twice that where a bad request had to be forgiven. A canary whose rate is at that breach or
    above passes a step with a probability of at most 1/10, all looks taken together; a finer one has shown itself by
    then where the traffic is enough to do so.
    """
    budget = objective.budget
    forgiven = step.bad > budget * step.requests + 1e-9
    if forgiven and step.bad > 1:
        return False
    breaches = [sequential.fine_breach(budget)]
    if elapsed >= settings.patience * (2.0 if forgiven else 1.0):
        expected = objective.min_labels if objective.labelled else settings.min_requests
        breaches.append(sequential.breach_worth_catching(budget, expected))
    wanted = math.log(ODDS_TO_PASS)
    return any(sequential.acceptance(budget, breach, step.requests, step.bad) >= wanted for breach in breaches)


def _enough(requests: int, look: Look, settings: Settings) -> bool:
    """Whether a step has its `min_requests`, and at a pace that brings them within `timeout`.

    Thin traffic would gather them in the end, but so few over so long a time say too little of the canary to promote it
    without anyone being asked.
    """
    return requests >= settings.min_requests * max(1.0, look.elapsed / settings.timeout)


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


def _entry(objective: Objective, weight: int, known: ObjectiveState | None) -> ObjectiveState:
    """What is known of an objective; a fresh start where nothing is, or where it was gathered on another grid."""
    budget, versus = sequential.budget_grid(objective.budget).start, sequential.COMPARISON.start
    none = (0, 0, 0, 0)
    fresh = ObjectiveState(objective.key, (0, 0), none, budget, versus, weight, blocks.BLOCKS.start, none)
    return known if known and _sizes(known) == _sizes(fresh) else fresh


def _sizes(state: ObjectiveState) -> tuple[int, ...]:
    return tuple(len(one.log_wealth) for one in (state.budget, state.versus, state.blocks))


def _remembered(state: ObjectiveState) -> ObjectiveCounts:
    """What was last seen, for a look at which the observer is silent."""
    return ObjectiveCounts(Counts(*state.seen), Counts(*state.compared[2:]))


def _learn(objective: Objective, seen: ObjectiveCounts, look: Look, before: ObjectiveState) -> ObjectiveState:
    """Takes in the requests that are new since the last look."""
    canary = (seen.canary.requests, seen.canary.bad)
    state = before
    batch = added(canary, before.seen)
    if lost(canary, before.seen):
        state = replace(state, seen=canary)
    elif batch[0] and batch[1] <= batch[0]:
        share = sequential.share_of(objective.budget * batch[0], objective.budget * canary[0])
        bets = sequential.budget_bets(objective.budget, *batch)
        grid = sequential.budget_grid(objective.budget)
        state = replace(state, seen=canary, budget=sequential.settle(grid, before.budget, bets, share))
    return _compare(seen, look, state)


def _compare(seen: ObjectiveCounts, look: Look, state: ObjectiveState) -> ObjectiveState:
    """Compares canary and stable once a batch has a bad request.

    A batch is of one weight, and when it ends depends on both sides' requests together, never on which side a bad one is
    of. So, while the canary is no worse, its part of the bad ones is as random as the routing.
    """
    both = (seen.canary.requests, seen.canary.bad, seen.stable.requests, seen.stable.bad)
    batch = added(both, state.compared)
    compared = replace(state, compared=both, compared_at=look.elapsed, weight=look.weight)
    if lost(both, state.compared) or look.weight != state.weight:
        return compared
    requests, bad = batch[0] + batch[2], batch[1] + batch[3]
    if batch[1] > batch[0] or batch[3] > batch[2] or requests < BATCH or (bad == 0 and requests < POOL):
        return state
    if bad == 0:
        return compared
    share = sequential.share_of(bad, both[1] + both[3])
    took = look.elapsed - state.compared_at
    bets = sequential.comparison_bets((batch[0], batch[1]), (batch[2], batch[3]), took, look.weight / 100.0)
    versus = sequential.settle(sequential.COMPARISON, state.versus, bets, share)
    return replace(compared, versus=versus)


def _comparable(objective: Objective, seen: ObjectiveCounts, look: Look, settings: Settings) -> bool:
    """Whether a stable revision serves beside the canary; one that gets nothing while the canary gets plenty does
    not. One without labels serves nevertheless: then nothing shows that the canary is worse.
    """
    if objective.labelled:
        return look.weight < 100
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
        stable_e=_finite_exp(blocks.worse(objective, seen, state)) if comparable else None,
        threshold=_finite_exp(log_threshold),
        interval=sequential.rate_interval(seen.canary.requests, seen.canary.bad),
    )


def _stored(before: ObjectiveState, after: ObjectiveState, log_threshold: float) -> ObjectiveState:
    """What is kept; portfolios that didn't change are left alone, for rounding down again would wear them away."""

    def kept(old: sequential.Portfolio, new: sequential.Portfolio) -> sequential.Portfolio:
        return new if new is old else sequential.capped(new, log_threshold)

    return replace(
        after,
        budget=kept(before.budget, after.budget),
        versus=kept(before.versus, after.versus),
        blocks=kept(before.blocks, after.blocks),
    )


def _finite_exp(value: float) -> float:
    """exp that stays within what JSON can hold."""
    return math.exp(min(value, 700.0))
