"""Canary and stable revision compared by blocks of time, for when something strikes both.

Requests of one moment hang together where processes fight for a CPU: one revision is slow for two or three seconds, then the
other. Taken one by one they would convict whoever is struck first (docs/adr/0016-trouble-that-both-have.md has the figures).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from tapchanger_operator.decide import sequential
from tapchanger_operator.decide.evidence import Look, Objective, ObjectiveCounts, ObjectiveState, added, lost
from tapchanger_operator.decide.sequential import Grid

BLOCKS: Final = Grid((0.3, 0.6, 0.9), (0.4, 0.3, 0.3))
"""Parts of the wealth that :func:`block_bets` stakes."""

TROUBLE: Final = 1.5
"""Log likelihood ratio, its own rate against the budget, from which on the stable revision counts as in trouble itself: about one
time in twenty where it just keeps the budget."""

BLOCK_SECONDS = 5.0
"""How long a block is at least: where processes fight for a CPU, who loses changes within two or three seconds."""

TROUBLE_SECONDS = 30.0
"""How long it is remembered that the stable revision was in trouble."""

SHARED: Final = 1.0 / 3.0
"""A trouble is one that both have where the stable revision's bad rate is at least so much of the canary's. Where processes fight
for a CPU it was 0.4 and more over five seconds; a stable revision that a canary itself slows has less."""

LEAST = 20
"""Requests of both sides together that a block has at least."""


def in_trouble(budget: float, requests: int, bad: int) -> bool:
    """Whether a revision seems to break the budget, by two bad requests at least."""
    rate = bad / requests if requests > 0 else 0.0
    if bad < 2 or rate <= budget or rate > 1.0:
        return False
    good = requests - bad
    return (
        bad * math.log(rate / budget) + (good * (math.log1p(-rate) - math.log1p(-budget)) if good else 0.0) >= TROUBLE
    )


def shared(budget: float, canary: tuple[int, int], stable: tuple[int, int]) -> bool:
    """Whether the stable revision is in trouble itself, about as the canary is; both are (requests, bad) of the same time."""
    if not in_trouble(budget, *stable):
        return False
    return stable[1] * max(canary[0], 1) >= SHARED * canary[1] * stable[0]


def block_bets(canary: tuple[int, int], stable: tuple[int, int]) -> tuple[float, ...]:
    """Log factors of one batch, one for each part of :data:`BLOCKS`, by which revision had the larger bad rate in it.

    Null: whatever makes requests bad strikes the canary no harder than the stable revision, as blocks of time go. Within a
    block requests may hang together in any way, as they do where processes fight for a CPU: the difference of the two
    rates is then one outcome between -1 and 1 with a mean of at most 0, and `1 + part * difference` is a fair bet (Waudby-Smith
    and Ramdas 2024, section 4).
    """
    if canary[0] == 0 or stable[0] == 0:
        return (0.0,) * len(BLOCKS.alternatives)
    difference = canary[1] / canary[0] - stable[1] / stable[0]
    return tuple(math.log1p(part * difference) for part in BLOCKS.alternatives)


def learn(objective: Objective, seen: ObjectiveCounts, look: Look, state: ObjectiveState) -> ObjectiveState:
    """Compares canary and stable by blocks of time, each of one weight and within one step."""
    both = (seen.canary.requests, seen.canary.bad, seen.stable.requests, seen.stable.bad)
    block = added(both, state.blocked)
    if lost(both, state.blocked) or look.weight != state.weight or look.elapsed < state.block_ended:
        left = max(0.0, state.troubled_until - state.block_ended)
        return replace(state, blocked=both, block_ended=look.elapsed, troubled_until=look.elapsed + left)
    impossible = block[1] > block[0] or block[3] > block[2]
    if impossible or look.elapsed - state.block_ended < BLOCK_SECONDS or block[0] + block[2] < LEAST:
        return state
    share = sequential.share_of(block[1] + block[3], both[1] + both[3])
    bets = block_bets((block[0], block[1]), (block[2], block[3]))
    wealth = sequential.settle(BLOCKS, state.blocks, bets, share)
    troubled = shared(objective.budget, (block[0], block[1]), (block[2], block[3]))
    until = look.elapsed + TROUBLE_SECONDS if troubled else state.troubled_until
    return replace(state, blocked=both, block_ended=look.elapsed, blocks=wealth, troubled_until=until)


def worse(objective: Objective, seen: ObjectiveCounts, state: ObjectiveState) -> float:
    """Log e-value that the canary is worse than the stable revision.

    While the stable revision is in trouble as well, in this block or lately, something strikes both, and whom it strikes harder
    changes from moment to moment: then the blocks of time must show it too. Taking the smaller of two e-values is always
    allowed.
    """
    if objective.labelled:
        return state.versus.log_e  # wrong answers don't hang together in time
    both = (seen.canary.requests, seen.canary.bad, seen.stable.requests, seen.stable.bad)
    block = added(both, state.blocked)
    now = shared(objective.budget, (block[0], block[1]), (block[2], block[3]))
    if not now and state.block_ended >= state.troubled_until:
        return state.versus.log_e
    return min(state.versus.log_e, state.blocks.log_e)
