"""Where a canary's bad requests come from: the part of the time, the codes or the node that sets it apart from stable.

The canary's slow requests are laid beside what stable's requests usually take in the same time, part by part. The part
with the largest excess is named where it makes at least half of all excess and is clearly the largest; otherwise it is
Unknown, with what was seen. Waiting needs care: a server that works twice as long for a text also lets others wait, so
where the work per text has grown, the wait counts for the work, as far as a server that is busy so much of its time can
make anyone wait (the mean wait of a queue by service time and utilization: Kleinrock, "Queueing Systems", volume 1, 1975,
equation 5.67).

The figures are means of samples and describe; that the canary is worse at all has been decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tapchanger_operator.api.analysis import BlameStage
from tapchanger_operator.decide import clocks, concentration
from tapchanger_operator.decide.clocks import Doubt
from tapchanger_operator.decide.evidence import Objective
from tapchanger_operator.decide.explain import duration, percent
from tapchanger_serving.contract.windows import ClockSkew, RevisionWindow, Stages

FEWEST_SLOW: Final = 3
"""Slow requests with server spans below which nothing is said of where their time went."""
FEWEST: Final = 10
"""Requests with server spans that say what is usual."""
HALF: Final = 0.5
CLEARLY: Final = 0.1
"""How much more of the excess the largest part must make than the next."""
GROWN: Final = 1.5
"""The work for one text has grown where it takes so many times what stable's takes."""
PLAUSIBLE: Final = 0.05
"""The added work is no reason to wait for more than twenty times as long, unless a server is hopelessly overloaded."""
UNEVEN: Final = 9.0
"""The squared coefficient of variation of the work, at most: one text in ten that takes all of the time."""
SMALLEST: Final = 0.001
"""Seconds of excess that are worth a word."""
NAMES: Final[Mapping[BlameStage, str]] = {
    "Queue": "waiting in the queue",
    "PreProcessing": "pre-processing",
    "Compute": "compute",
    "PostProcessing": "post-processing",
    "Network": "the network",
}
WORK: Final[tuple[BlameStage, ...]] = ("PreProcessing", "Compute", "PostProcessing")
CODES: Final = {
    "grpc/4": "the deadline passed",
    "grpc/13": "the model could not answer",
    "grpc/14": "no server could be reached",
    "http/500": "the model could not answer",
    "http/503": "no server could be reached",
    "http/504": "the deadline passed",
}
_SHOWN_CODES: Final = 3


@dataclass(frozen=True, slots=True)
class Blame:
    """The culprit, in words too; `share` (0 to 1) is how much of the difference to stable it makes, 0 where Unknown.

    `excess` has the seconds by which each known part exceeds stable's, waiting counted where it belongs.
    """

    stage: BlameStage
    message: str
    share: float = 0.0
    excess: Mapping[BlameStage, float] = field(default_factory=dict)


def blame(
    objective: Objective, canary: RevisionWindow, stable: RevisionWindow, skews: Sequence[ClockSkew] = ()
) -> Blame | None:
    """What is to blame for the canary's bad requests of one objective; None where it has none.

    Both windows are of the same time; `stable` has no requests where no stable revision serves beside the canary. `skews` are
    the nodes whose clocks differ from the routers'.
    """
    failing = _failing_more(canary, stable)
    if objective.labelled:
        return None
    if objective.kind == "availability":
        return _errors(canary, stable, 1.0) if canary.unavailable else None
    slowing = _slow_rate(objective, canary) - _slow_rate(objective, stable)
    if canary.unavailable and failing >= max(slowing, 0.0):
        return _errors(canary, stable, failing / (failing + max(slowing, 0.0)) if failing else 1.0)
    if not _slow_rate(objective, canary):
        return None
    on_node = concentration.slow_node(canary, stable)
    return (
        Blame("Node", on_node[1], on_node[0])
        if on_node
        else _time(objective, canary, stable, clocks.doubt(skews, canary, stable))
    )


def dominant(objective: Objective, window: RevisionWindow, skews: Sequence[ClockSkew] = ()) -> str | None:
    """What most of the bad requests' time or failures are, without anything to compare with; None where it isn't known."""
    if objective.kind == "availability" or window.unavailable > _slow_rate(objective, window) * window.requests:
        return _codes(window.codes, window.requests) if window.codes else None
    stages = _slow(objective, window)
    parts = _parts(stages)
    total = sum(parts.values())
    certain = clocks.certain(parts, clocks.doubt(skews, window))
    if stages.spans < FEWEST_SLOW or total <= 0:
        return None
    top = max(parts, key=parts.__getitem__)
    if certain[top] < HALF * total:
        return None
    return f"{NAMES[top]} took {duration(parts[top])} of the {duration(total)} of slow requests"


def _time(objective: Objective, canary: RevisionWindow, stable: RevisionWindow, doubt: Doubt) -> Blame:
    slow = _slow(objective, canary)
    which, seen = ("slow requests", slow) if slow.spans >= FEWEST_SLOW else ("all requests", canary.stages)
    parts = _parts(seen)
    if not parts or (which == "all requests" and seen.spans < FEWEST):
        return Blame("Unknown", f"where the time went is not known: {_thin(slow.spans)}")
    usual = _parts(stable.stages)
    shown = f"{which} took {_listed(parts)}"
    if stable.stages.spans < FEWEST:
        return Blame("Unknown", f"where the time went is not known for lack of a comparison: {shown}")
    excess = {part: parts[part] - usual[part] for part in parts if part in usual}
    # Slow requests tend to be long ones, whose work is longer in any revision: all of both are alike in length.
    alike = canary.stages if canary.stages.spans >= FEWEST else seen
    certain = clocks.certain(excess, doubt)
    settled = _settled(certain, alike, stable.stages) if _keeps_waiting(canary) else certain
    found = _largest(settled, parts, usual, which, concentration.long_texts(canary, stable))
    return _undoubted(found, excess, doubt, _more(seen, stable.stages)) if doubt.seconds else found


def _more(seen: Stages, usual: Stages) -> float | None:
    """By how many seconds the router's own measure exceeds stable's, where it is known of both."""
    return None if seen.seconds is None or usual.seconds is None else seen.seconds - usual.seconds


def _undoubted(found: Blame, measured: Mapping[BlameStage, float], doubt: Doubt, whole: float | None) -> Blame:
    """A blame of which no clock is the reason: what is named must make half of what the router's own clock says."""
    changed = any(measured[part] > SMALLEST for part in clocks.BETWEEN & measured.keys())
    named = found.excess.get(found.stage)
    if named is not None and whole is not None:
        sure = min(named, whole) if found.stage in clocks.BETWEEN else named
        if sure < max(HALF * whole, SMALLEST):
            return Blame("Unknown", f"where the time went can't be told: {doubt.message}", excess=found.excess)
    return replace(found, message=f"{found.message}; {doubt.message}") if changed else found


def _largest(
    excess: Mapping[BlameStage, float],
    parts: Mapping[BlameStage, float],
    usual: Mapping[BlameStage, float],
    which: str,
    long_texts: str | None,
) -> Blame:
    total = sum(max(0.0, seconds) for seconds in excess.values())
    beside = f"{which} took {_listed(parts)}; stable's {_listed(usual)}"
    if total < max(SMALLEST, 0.1 * sum(usual.values())):
        return Blame("Unknown", f"no part of the time has grown: {beside}", excess=excess)
    first, *others = sorted(excess, key=excess.__getitem__, reverse=True)
    share, second = excess[first] / total, max(0.0, excess[others[0]] / total) if others else 0.0
    if share < HALF or share - second < CLEARLY:
        return Blame("Unknown", f"no part of the time stands out: {beside}", excess=excess)
    words = [
        f"{NAMES[first]} took {duration(parts[first])} in {which}, stable's {duration(usual[first])}: "
        f"{percent(round(share, 2))} of the difference"
    ]
    if "Queue" not in excess and "Queue" in parts:
        words.append(f"requests waited {duration(parts['Queue'])} for it, stable's {duration(usual['Queue'])}")
    return Blame(first, "; ".join([*words, long_texts] if long_texts else words), min(1.0, share), excess)


def _keeps_waiting(window: RevisionWindow) -> bool:
    """Whether the work may be why requests wait: for at least half of it, by the mean wait at one server with this load.

    One server and batches of one request are assumed, which makes the load too high rather than too low.
    """
    stages = window.stages
    if stages.queue is None or stages.compute is None or window.first_seen is None or window.last_seen is None:
        return True
    work = stages.compute + (stages.pre or 0.0) + (stages.post or 0.0)
    watched = window.last_seen - window.first_seen
    busy = window.requests * work / watched if watched > 0 else 1.0
    return busy >= 1 or work * busy / (1 - busy) * (1 + UNEVEN) / 2 >= HALF * stages.queue


def _settled(excess: Mapping[BlameStage, float], alike: Stages, usual: Stages) -> dict[BlameStage, float]:
    """The excess with the waiting given to the work, in proportion, where the work for one text has grown."""
    grown = {part: excess[part] for part in WORK if excess.get(part, 0.0) > 0}
    work, before = _per_text(alike), _per_text(usual)
    if excess.get("Queue", 0.0) <= 0 or not grown or not work or not before or work < GROWN * before:
        return dict(excess)
    if sum(grown.values()) < max(SMALLEST, PLAUSIBLE * excess["Queue"]):
        return dict(excess)
    factor = 1 + excess["Queue"] / sum(grown.values())
    others = {part: seconds for part, seconds in excess.items() if part != "Queue"}
    return {part: seconds * factor if part in grown else seconds for part, seconds in others.items()}


def _per_text(stages: Stages) -> float | None:
    """Seconds of work for each text of a batch; larger batches take longer without being slower."""
    if stages.compute is None or not stages.batch:
        return None
    return (stages.compute + (stages.pre or 0.0) + (stages.post or 0.0)) / stages.batch


def _parts(stages: Stages) -> dict[BlameStage, float]:
    """The parts that are known."""
    told: dict[BlameStage, float | None] = {
        "Queue": stages.queue,
        "PreProcessing": stages.pre,
        "Compute": stages.compute,
        "PostProcessing": stages.post,
        "Network": stages.network,
    }
    return {part: seconds for part, seconds in told.items() if seconds is not None}


def _slow(objective: Objective, window: RevisionWindow) -> Stages:
    wanted = objective.threshold_seconds or 0.0
    return next((slow.stages for slow in window.slow if abs(slow.threshold - wanted) < 1e-9), Stages())


def _slow_rate(objective: Objective, window: RevisionWindow) -> float:
    """The share of requests that were too slow and did not fail."""
    wanted = objective.threshold_seconds or 0.0
    bad = next((over.bad for over in window.over if abs(over.threshold - wanted) < 1e-9), 0)
    return max(0, bad - window.unavailable) / window.requests if window.requests else 0.0


def _failing_more(canary: RevisionWindow, stable: RevisionWindow) -> float:
    """How much larger the canary's share of failed requests is; 0 where it isn't."""
    return max(0.0, _rate(canary.unavailable, canary) - _rate(stable.unavailable, stable))


def _rate(count: int, window: RevisionWindow) -> float:
    return count / window.requests if window.requests else 0.0


def _errors(canary: RevisionWindow, stable: RevisionWindow, share: float) -> Blame:
    on_node = concentration.failing_node(canary)
    if on_node:
        return Blame("Node", on_node, share)
    more = {code: _rate(n, canary) - _rate(stable.codes.get(code, 0), stable) for code, n in canary.codes.items()}
    worse = {code: canary.codes[code] for code, excess in more.items() if excess > 0}
    total = sum(more[code] for code in worse)
    if not worse or total <= 0:
        return Blame("Unknown", "where the failures come from is not known: no code is more frequent than in stable")
    shown = sorted(worse, key=more.__getitem__, reverse=True)[:_SHOWN_CODES]
    words = _codes({code: worse[code] for code in shown}, canary.requests)
    beside = "no stable revision beside it"
    if stable.requests:
        beside = f"stable's on {sum(stable.codes.get(code, 0) for code in shown)} of {stable.requests}"
    named = sum(more[code] for code in shown) / total
    return Blame("Errors", f"{words}, {beside}", min(1.0, max(0.0, share * named)))


def _codes(codes: Mapping[str, int], requests: int) -> str:
    """Failures by code, the most frequent first."""
    order = sorted(codes, key=lambda code: (-codes[code], code))[:_SHOWN_CODES]
    told = [f"{code} ({CODES[code]})" if code in CODES else code for code in order]
    return ", ".join(f"{name} on {codes[code]}" for name, code in zip(told, order, strict=True)) + (
        f" of {requests} requests"
    )


def _listed(parts: Mapping[BlameStage, float]) -> str:
    return ", ".join(f"{NAMES[part]} {duration(seconds)}" for part, seconds in parts.items())


def _thin(spans: int) -> str:
    return "no server has told of a slow request" if not spans else f"servers have told of {spans} slow requests only"
