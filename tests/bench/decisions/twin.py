"""The analysis of :mod:`tapchanger_operator.decide.analysis`, for many rollouts at once.

It takes its grids, weights and constants from :mod:`~tapchanger_operator.decide.sequential`, and gives the same verdict
at the same look: a property test and every run of the benchmark hold it against the original.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapchanger_operator.decide import analysis, blocks, sequential
from tapchanger_operator.decide.evidence import Settings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


FRESH = -1.0
"""The weight of a batch that has not begun."""


class Portfolios:
    """A :class:`sequential.Portfolio` for each of `rows` rollouts."""

    def __init__(self, grid: sequential.Grid, rows: int, log_threshold: float) -> None:
        start = grid.start
        self._start = np.exp(np.array(start.log_wealth))
        self._limit = log_threshold + sequential.CAP
        self._wealth = np.repeat(self._start[:, None], rows, axis=1)
        self.log_e = np.full(rows, start.log_e)

    def reset(self, rows: Ints) -> None:
        """Begins anew."""
        self._wealth[:, rows] = self._start[:, None]
        self.log_e[rows] = math.log(self._start[1:].sum())

    def settle(self, rows: Ints, log_factors: Floats, share: Floats) -> None:
        """What :func:`sequential.settle` and :func:`sequential.capped` do; `log_factors` is (alternatives, rows)."""
        before = self._wealth[:, rows]
        mixed = before * (1.0 - share) + self._start[:, None] * (share * before.sum(axis=0))
        with np.errstate(divide="ignore"):
            log_wealth = np.log(mixed)
        log_wealth[1:] += log_factors
        top = log_wealth.max(axis=0)
        total = top + np.log(np.exp(log_wealth - top).sum(axis=0))
        kept = np.floor((log_wealth - np.maximum(0.0, total - self._limit)) * 1e6) / 1e6
        self._wealth[:, rows] = np.exp(kept)
        # The look itself sees the wealth before it is rounded for keeping.
        self.log_e[rows] = np.log(np.exp(log_wealth[1:] - top).sum(axis=0)) + top


@dataclass
class Tally:
    """Counts of one side, shape (rows,): all requests, and the bad ones by objective, (objectives, rows)."""

    requests: Ints
    bad: Ints

    @classmethod
    def empty(cls, objectives: int, rows: int) -> Tally:
        return cls(np.zeros(rows, np.int64), np.zeros((objectives, rows), np.int64))

    def clear(self, rows: Ints) -> None:
        self.requests[rows] = 0
        self.bad[:, rows] = 0

    def copy_from(self, other: Tally, rows: Ints) -> None:
        self.requests[rows] = other.requests[rows]
        self.bad[:, rows] = other.bad[:, rows]


class Twin:
    """The analyses of `rows` rollouts, with their counts. `budgets` are the objectives' shares of bad requests."""

    def __init__(self, budgets: tuple[float, ...], settings: Settings, rows: int) -> None:
        self.budgets, self.settings = budgets, settings
        self.log_threshold = math.log(len(budgets) / settings.false_alarm)
        count = len(budgets)
        self.canary, self.stable = Tally.empty(count, rows), Tally.empty(count, rows)
        self._step_canary, self._step_stable = Tally.empty(count, rows), Tally.empty(count, rows)
        self._compared = [(Tally.empty(1, rows), Tally.empty(1, rows)) for _ in budgets]
        self._compared_at = [np.zeros(rows) for _ in budgets]
        self._blocked = [(Tally.empty(1, rows), Tally.empty(1, rows)) for _ in budgets]
        self._block_ended = [np.zeros(rows) for _ in budgets]
        self._seen = Tally.empty(count, rows)
        self._weight = np.full(rows, FRESH)
        self.against_budget = [
            Portfolios(sequential.budget_grid(budget), rows, self.log_threshold) for budget in budgets
        ]
        self.against_stable = [Portfolios(sequential.COMPARISON, rows, self.log_threshold) for _ in budgets]
        self.by_blocks = [Portfolios(blocks.BLOCKS, rows, self.log_threshold) for _ in budgets]
        self._troubled_until = [np.zeros(rows) for _ in budgets]

    def begin_step(self, rows: Ints) -> None:
        """The counts of the step start at 0."""
        self._step_canary.copy_from(self.canary, rows)
        self._step_stable.copy_from(self.stable, rows)

    def begin_anew(self, rows: Ints) -> None:
        """Nothing has been seen: another test begins."""
        self._weight[rows] = FRESH
        for tally in (self.canary, self.stable, self._step_canary, self._step_stable, self._seen):
            tally.clear(rows)
        for pair in (*self._compared, *self._blocked):
            for tally in pair:
                tally.clear(rows)
        for ended in self._block_ended:
            ended[rows] = 0.0
        for times in (*self._troubled_until, *self._compared_at):
            times[rows] = 0.0
        for portfolios in (*self.against_budget, *self.against_stable, *self.by_blocks):
            portfolios.reset(rows)

    def serve(self, rows: Ints, canary: tuple[Ints, Ints], stable: tuple[Ints, Ints]) -> None:
        """More requests: (requests, bad by objective) of both sides."""
        for tally, (requests, bad) in ((self.canary, canary), (self.stable, stable)):
            tally.requests[rows] += requests
            tally.bad[:, rows] += bad

    def waiting(self, rows: Ints) -> Flags:
        """Whether a bad request has not been compared yet."""
        found = np.zeros(len(rows), bool)
        for objective, (canary, stable) in enumerate(self._compared):
            found |= self.canary.bad[objective, rows] > canary.bad[0, rows]
            found |= self.stable.bad[objective, rows] > stable.bad[0, rows]
        return found

    def look(self, rows: Ints, weight: Floats, elapsed: Floats, hurried: Flags) -> tuple[Flags, Flags]:
        """Whether each of `rows` fails and whether it passes; `weight` in percent, `elapsed` in seconds.

        `hurried`: its step needs no patience.
        """
        for objective, budget in enumerate(self.budgets):
            self._learn_budget(rows, objective, budget)
            self._learn_blocks(rows, weight, elapsed, objective)
            self._learn_comparison(rows, weight, elapsed, objective)
        self._weight[rows] = weight
        step = self.canary.requests[rows] - self._step_canary.requests[rows]
        beside = self.stable.requests[rows] - self._step_stable.requests[rows]
        comparable = (weight < 100.0) & ~((beside == 0) & (step >= self.settings.min_requests))
        evidence, over = np.zeros(len(rows)), np.zeros(len(rows), bool)
        passes = (self.canary.requests[rows] > 0) & self._enough(step, elapsed)
        for objective, budget in enumerate(self.budgets):
            broken, worse = self.against_budget[objective].log_e[rows], self._worse(rows, objective)
            evidence += np.exp(np.where(comparable, np.minimum(broken, worse), broken))
            over |= broken >= self.log_threshold
            bad = self.canary.bad[objective, rows] - self._step_canary.bad[objective, rows]
            passes &= self._supported(budget, step, bad, np.where(hurried, np.inf, elapsed))
        fails = evidence >= math.exp(self.log_threshold)
        return fails, passes & ~over & ~fails

    def _worse(self, rows: Ints, objective: int) -> Floats:
        versus, in_time = self.against_stable[objective].log_e[rows], self.by_blocks[objective].log_e[rows]
        now = [
            (tally.requests[rows] - before.requests[rows], tally.bad[objective, rows] - before.bad[0, rows])
            for tally, before in zip((self.canary, self.stable), self._blocked[objective], strict=True)
        ]
        struck = shared(self.budgets[objective], *now)
        struck |= self._block_ended[objective][rows] < self._troubled_until[objective][rows]
        return np.where(struck, np.minimum(versus, in_time), versus)

    def _enough(self, step: Ints, elapsed: Floats) -> Flags:
        late = np.maximum(1.0, elapsed / self.settings.timeout)
        return np.asarray(step >= self.settings.min_requests * late)

    def _supported(self, budget: float, step: Ints, bad: Ints, elapsed: Floats) -> Flags:
        coarse = sequential.breach_worth_catching(budget, self.settings.min_requests)
        fine = sequential.fine_breach(budget)
        good = step - bad
        wanted = math.log(analysis.ODDS_TO_PASS)
        forgiven = bad > budget * step + 1e-9
        waited = elapsed >= self.settings.patience * np.where(forgiven, 2.0, 1.0)
        speaks = [
            bad * math.log(budget / breach) + good * (math.log1p(-budget) - math.log1p(-breach)) >= wanted
            for breach in (fine, coarse)
        ]
        return ~(forgiven & (bad > 1)) & (speaks[0] | (speaks[1] & waited))

    def _learn_budget(self, rows: Ints, objective: int, budget: float) -> None:
        before = self._seen
        new = self.canary.requests[rows] - before.requests[rows]
        bad = self.canary.bad[objective, rows] - before.bad[objective, rows]
        some = new > 0
        rows, new, bad = rows[some], new[some], bad[some]
        if objective == len(self.budgets) - 1:
            self._seen.copy_from(self.canary, rows)
        if not len(rows):
            return
        rates = np.array(sequential.budget_grid(budget).alternatives)[:, None]
        factors = bad * np.log(rates / budget) + (new - bad) * (np.log1p(-rates) - math.log1p(-budget))
        share = budget * new / (budget * self.canary.requests[rows] + sequential.PATIENCE)
        self.against_budget[objective].settle(rows, factors, share)

    def _learn_comparison(self, rows: Ints, weight: Floats, elapsed: Floats, objective: int) -> None:
        canary, stable = self._compared[objective]
        mine = self.canary.requests[rows] - canary.requests[rows]
        theirs = self.stable.requests[rows] - stable.requests[rows]
        my_bad = self.canary.bad[objective, rows] - canary.bad[0, rows]
        their_bad = self.stable.bad[objective, rows] - stable.bad[0, rows]
        moved = (self._weight[rows] != FRESH) & (self._weight[rows] != weight)
        some, full = my_bad + their_bad > 0, mine + theirs >= analysis.POOL
        ends = moved | ((mine + theirs >= analysis.BATCH) & (some | full))
        for known, now in ((canary, self.canary), (stable, self.stable)):
            known.requests[rows[ends]] = now.requests[rows[ends]]
            known.bad[0, rows[ends]] = now.bad[objective, rows[ends]]
        took = elapsed - self._compared_at[objective][rows]
        self._compared_at[objective][rows[ends]] = elapsed[ends]
        told = ends & ~moved & some
        took, part = took[told], weight[told] / 100.0
        rows, mine, theirs = rows[told], mine[told], theirs[told]
        my_bad, their_bad = my_bad[told], their_bad[told]
        if not len(rows):
            return
        seen = self.canary.bad[objective, rows] + self.stable.bad[objective, rows]
        share = (my_bad + their_bad) / (seen + sequential.PATIENCE)
        factors = comparison_factors(mine, my_bad, theirs, their_bad, took, part)
        factors[:, (mine == 0) | (theirs == 0)] = 0.0
        self.against_stable[objective].settle(rows, factors, share)

    def _learn_blocks(self, rows: Ints, weight: Floats, elapsed: Floats, objective: int) -> None:
        canary, stable = self._blocked[objective]
        ended = self._block_ended[objective]
        mine = self.canary.requests[rows] - canary.requests[rows]
        theirs = self.stable.requests[rows] - stable.requests[rows]
        my_bad = self.canary.bad[objective, rows] - canary.bad[0, rows]
        their_bad = self.stable.bad[objective, rows] - stable.bad[0, rows]
        moved = ((self._weight[rows] != FRESH) & (self._weight[rows] != weight)) | (elapsed < ended[rows])
        full = (elapsed - ended[rows] >= blocks.BLOCK_SECONDS) & (mine + theirs >= blocks.LEAST)
        ends = moved | full
        for known, now in ((canary, self.canary), (stable, self.stable)):
            known.requests[rows[ends]] = now.requests[rows[ends]]
            known.bad[0, rows[ends]] = now.bad[objective, rows[ends]]
        until = self._troubled_until[objective]
        left = np.maximum(0.0, until[rows] - ended[rows])
        troubled = shared(self.budgets[objective], (mine, my_bad), (theirs, their_bad))
        ended[rows[ends]] = elapsed[ends]
        until[rows[moved]] = (elapsed + left)[moved]
        told = full & ~moved & troubled
        until[rows[told]] = elapsed[told] + blocks.TROUBLE_SECONDS
        told = full & ~moved
        rows, mine, theirs, my_bad, their_bad = (one[told] for one in (rows, mine, theirs, my_bad, their_bad))
        if not len(rows):
            return
        seen = self.canary.bad[objective, rows] + self.stable.bad[objective, rows]
        share = (my_bad + their_bad) / (seen + sequential.PATIENCE)
        difference = my_bad / np.maximum(mine, 1) - their_bad / np.maximum(theirs, 1)
        difference[(mine == 0) | (theirs == 0)] = 0.0
        parts = np.array(blocks.BLOCKS.alternatives)[:, None]
        self.by_blocks[objective].settle(rows, np.log1p(parts * difference), share)


def in_trouble(budget: float, requests: Ints, bad: Ints) -> Flags:
    """:func:`blocks.in_trouble` for each row."""
    rate = bad / np.maximum(requests, 1)
    inside = np.clip(rate, 1e-300, 1.0 - 1e-16)
    good = np.where(rate < 1.0, (requests - bad) * (np.log1p(-inside) - math.log1p(-budget)), 0.0)
    told: Flags = (
        (bad >= 2) & (rate > budget) & (rate <= 1.0) & (bad * np.log(inside / budget) + good >= blocks.TROUBLE)
    )
    return told


def shared(budget: float, canary: tuple[Ints, Ints], stable: tuple[Ints, Ints]) -> Flags:
    """:func:`blocks.shared` for each row."""
    alike: Flags = stable[1] * np.maximum(canary[0], 1) >= blocks.SHARED * canary[1] * stable[0]
    return alike & in_trouble(budget, *stable)


def comparison_factors(
    mine: Ints, my_bad: Ints, theirs: Ints, their_bad: Ints, seconds: Floats, part: Floats
) -> Floats:
    """:func:`sequential.comparison_bets` for each row, (odds, rows); every row has a bad request."""
    odds = np.array(sequential.COMPARISON.alternatives)[:, None]
    bad, total = my_bad + their_bad, mine + theirs
    low, high = np.maximum(0, bad - theirs), np.minimum(mine, bad)
    factors = np.empty((len(odds), len(mine)))
    many = high - low > sequential.EXACT_TERMS
    if many.any():
        bound = np.minimum(
            bad[many] * np.log1p((odds - 1.0) * mine[many] / total[many]),
            mine[many] * np.log1p((odds - 1.0) * bad[many] / total[many]),
        )
        factors[:, many] = my_bad[many] * np.log(odds) - bound
    most = sequential.INDEPENDENT * np.maximum(1.0, seconds) * -np.log(np.maximum(np.maximum(mine, 1) / total, part))
    few = np.flatnonzero(~many)
    if not len(few):
        return np.minimum(factors, most)
    terms = int((high - low)[few].max()) + 1
    k = low[few, None] + np.arange(terms - 1)
    inside = k < high[few, None]
    up = np.where(inside, (bad[few, None] - k) * (mine[few, None] - k), 1)
    down = np.where(inside, (k + 1) * (total[few, None] - bad[few, None] - mine[few, None] + k + 1), 1)
    steps = np.where(inside, np.log(up) - np.log(down), -np.inf)
    logs = np.concatenate([np.zeros((len(few), 1)), np.cumsum(steps, axis=1)], axis=1)
    chances = np.exp(logs - logs.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    expected = chances @ (odds ** np.arange(terms)).T
    factors[:, few] = (my_bad - low)[few] * np.log(odds) - np.log(expected).T
    return np.minimum(factors, most)
