"""Whether a canary answers copied requests as the stable revision does, from what both told of them.

The share of a request's texts that were answered alike is a number from 0 to 1 for each request. Its mean has an interval that
holds at all times (:mod:`~tapchanger_operator.decide.bounded`), so that one may look as often as one likes.
"""

from __future__ import annotations

from typing import Final

from tapchanger_operator.api import reasons
from tapchanger_operator.api.analysis import FlipStatus, MirrorStatus, SliceStatus
from tapchanger_operator.api.base import readable
from tapchanger_operator.api.rollout import MirrorGate
from tapchanger_operator.decide.bounded import Tally, interval
from tapchanger_operator.decide.explain import percent
from tapchanger_operator.decide.state import Judgement
from tapchanger_serving.contract.windows import LatencyCount, MirrorWindow, RevisionWindow, Slice, Windows

ANALYSIS_PART: Final = 0.25
AGREEMENT_PART: Final = 0.25
"""Of `falseAlarm`, what the objectives and the agreement may use up while requests are copied; the steps have the rest."""
FLIPS_TOLD: Final = 5
SLICES_TOLD: Final = 5
SLICE_TEXTS: Final = 20
"""A slice of fewer texts says too little to be told."""


def window_of(windows: Windows, canary: str, stable: str) -> MirrorWindow:
    """The pairs of `canary` and `stable`; an empty window where there are none."""
    found = (w for w in windows.mirrors if (w.canary, w.stable) == (canary, stable))
    return next(found, MirrorWindow(canary=canary, stable=stable))


def as_windows(windows: Windows, mirror: MirrorWindow) -> Windows:
    """The pairs as the analysis takes them: both revisions with as many requests, at the same time."""

    def side(revision: str, failed: int, over: tuple[LatencyCount, ...]) -> RevisionWindow:
        return RevisionWindow(revision=revision, requests=mirror.requests, unavailable=failed, over=over)

    canary = side(mirror.canary, mirror.canary_failed, mirror.canary_over)
    stable = side(mirror.stable, mirror.stable_failed, mirror.stable_over)
    return windows.model_copy(update={"revisions": (canary, stable), "mirrors": ()})


def told(before: MirrorStatus, window: MirrorWindow, error: float) -> MirrorStatus:
    """`before` with the figures of `window`; `error` is the chance that the interval is ever wrong."""
    tally = Tally(window.compared, window.agreement)
    low, high = interval(tally, "binary", error)
    known = window.compared > 0
    return before.model_copy(
        update={
            "requests": window.compared,
            "failed": window.canary_failed,
            "agreement": _rounded(tally.mean) if known else None,
            "agreement_low": _rounded(low) if known else None,
            "agreement_high": _rounded(high) if known else None,
            "p99": readable(window.canary_latency.p99),
            "stable_p99": readable(window.stable_latency.p99),
            "flips": [FlipStatus(**flip.model_dump()) for flip in window.flips[:FLIPS_TOLD]],
            "slices": _worst((*window.labels, *window.lengths)),
            "exemplars": list(window.exemplars[:3]),
        }
    )


def judge(gate: MirrorGate, figures: MirrorStatus) -> Judgement:
    """Whether the answers agree as `gate` asks."""
    wanted, share = gate.min_agreement, figures.agreement
    if share is None:
        return Judgement("Inconclusive", reasons.NO_REQUESTS, "no copied request was answered by both revisions yet")
    message = in_words(figures)
    if wanted is not None and figures.agreement_high is not None and figures.agreement_high < wanted:
        return Judgement("Fail", reasons.ANSWERS_DIFFER, f"{message}; minAgreement is {wanted:g}")
    if figures.requests < gate.min_requests:
        few = f"{figures.requests} of {gate.min_requests} copied requests compared"
        return Judgement("Inconclusive", reasons.TOO_FEW_REQUESTS, few)
    if wanted is not None and share < wanted:
        return Judgement("Inconclusive", reasons.ANSWERS_DIFFER, f"{message}; minAgreement is {wanted:g}")
    return Judgement("Pass", reasons.OBJECTIVES_MET, message)


def in_words(figures: MirrorStatus) -> str:
    """The agreement in a sentence: how much, how sure, and where it is least."""
    low, high = figures.agreement_low or 0.0, figures.agreement_high or 0.0
    share = f"{percent(figures.agreement or 0.0)} ({percent(low)} to {percent(high)})"
    parts = [f"answers agree in {share} of {figures.requests} copied requests"]
    if figures.flips:
        flip = figures.flips[0]
        parts.append(f"most often {flip.stable} became {flip.canary} ({flip.texts} texts)")
    if figures.slices:
        worst = figures.slices[0]
        parts.append(f"least in {worst.name}: {percent(worst.agreement)} of {worst.texts} texts")
    return "; ".join(parts)


def _worst(slices: tuple[Slice, ...]) -> list[SliceStatus]:
    """Those with some difference and enough texts, the worst first."""
    differing = [one for one in slices if one.alike < one.texts and one.texts >= SLICE_TEXTS]
    differing.sort(key=lambda one: (one.alike / one.texts, -one.texts))
    return [
        SliceStatus(name=one.name, texts=one.texts, agreement=_rounded(one.alike / one.texts))
        for one in differing[:SLICES_TOLD]
    ]


def _rounded(share: float | None) -> float:
    return round(share or 0.0, 5)
