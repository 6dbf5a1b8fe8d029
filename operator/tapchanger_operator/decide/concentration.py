"""Whether a canary's trouble sits in one place: in long texts, or on one node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tapchanger_operator.decide.explain import duration, percent
from tapchanger_serving.contract.windows import LengthCount, NodeCount, RevisionWindow

NEARLY_ALL: Final = 0.9
AT_MOST: Final = 0.75
"""A place that has more of the requests than this is no place of its own."""
FEWEST_TEXTS: Final = 3
FEWEST_ON_NODE: Final = 10
SMALLEST: Final = 0.001
"""Seconds of excess that are worth a word."""
TIMES: Final = 4.0
"""How many times the short texts' excess that of the long ones must be."""
CHANCE: Final = 0.01
"""How improbable it must be that all failures are on one node by luck."""


def long_texts(canary: RevisionWindow, stable: RevisionWindow) -> str | None:
    """That only long texts take longer than stable's, with the figures; None where that isn't shown.

    Of the boundaries that fit the highest is taken. Waiting for long texts makes short ones a little slower too.
    """
    for boundary in sorted((length.up_to for length in canary.lengths), reverse=True):
        short, long = _mean(canary.lengths, boundary, over=False), _mean(canary.lengths, boundary, over=True)
        usual_short, usual_long = (
            _mean(stable.lengths, boundary, over=False),
            _mean(stable.lengths, boundary, over=True),
        )
        if min(short[0], long[0], usual_short[0], usual_long[0]) < FEWEST_TEXTS:
            continue
        more_long, more_short = long[1] - usual_long[1], max(0.0, short[1] - usual_short[1])
        if more_long < max(SMALLEST, TIMES * more_short) or long[0] > AT_MOST * (long[0] + short[0]):
            continue
        if long[0] * more_long >= NEARLY_ALL * (long[0] * more_long + short[0] * more_short):
            return (
                f"texts of more than {boundary} tokens took {duration(long[1])}, stable's {duration(usual_long[1])}; "
                f"shorter ones {duration(short[1])}, stable's {duration(usual_short[1])}"
            )
    return None


def failing_node(window: RevisionWindow) -> str | None:
    """That all failures are on one of several nodes, with the figures; None where they aren't, or it may be luck.

    Known are the failures of which a server has told. Were the nodes alike, all `k` would be on one that answers a share
    `p` of the requests with the probability p^k.
    """
    known = sum(node.requests for node in window.nodes)
    failed = sum(node.failed for node in window.nodes)
    if not failed or failed < 0.5 * window.unavailable * known / max(window.requests, known):
        return None
    worst = max(window.nodes, key=lambda node: node.failed)
    share = worst.requests / known
    if worst.failed < failed or share >= 1 or share**failed > CHANCE:
        return None
    return (
        f"all {failed} failures whose server is known were on node {worst.node}, "
        f"which answered {percent(round(share, 2))} of these requests"
    )


def slow_node(canary: RevisionWindow, stable: RevisionWindow) -> tuple[float, str] | None:
    """The share of the canary's excess that one of several nodes makes, and the figures; None where none makes nearly all."""
    usual, nodes = stable.stages.seconds, [node for node in canary.nodes if node.requests >= FEWEST_ON_NODE]
    if usual is None or stable.stages.joined < FEWEST_ON_NODE or len(nodes) < 2:
        return None
    excess = {node.node: node.requests * max(0.0, node.seconds - usual) for node in nodes}
    worst = max(nodes, key=lambda node: excess[node.node])
    others = [node for node in nodes if node is not worst]
    total, requests = sum(excess.values()), sum(node.requests for node in nodes)
    if worst.seconds - usual < SMALLEST or worst.requests > AT_MOST * requests:
        return None
    share = excess[worst.node] / total
    if share < NEARLY_ALL:
        return None
    return share, (
        f"requests on node {worst.node} took {duration(worst.seconds)}, on others {duration(_over(others))}, "
        f"stable's {duration(usual)}: {percent(round(share, 2))} of the difference"
    )


def _over(nodes: Sequence[NodeCount]) -> float:
    return sum(node.requests * node.seconds for node in nodes) / sum(node.requests for node in nodes)


def _mean(lengths: Sequence[LengthCount], boundary: int, *, over: bool) -> tuple[int, float]:
    """Requests of more than `boundary` tokens, or of at most so many, and their mean seconds."""
    chosen = [length for length in lengths if (length.up_to > boundary) == over]
    requests = sum(length.requests for length in chosen)
    return requests, sum(length.requests * length.seconds for length in chosen) / requests if requests else 0.0
