"""The last verdict and the figures it was made from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from tapchanger_cli.subject import Subject
from tapchanger_cli.views.parts import BAD, GOOD, QUIET, WAITING, table, truth
from tapchanger_cli.words import number, of, percent
from tapchanger_operator.api import reasons
from tapchanger_operator.api.analysis import AnalysisStatus, MirrorStatus, ObjectiveEvidence

_COLOURS: Final = {"Pass": GOOD, "Fail": BAD, "Inconclusive": WAITING, "Error": BAD}
_CELLS: Final = 8


def title(subject: Subject, analysis: AnalysisStatus) -> str:
    """Whom the verdict is about."""
    canary = subject.status.canary
    if analysis.watching:
        return f"after the promotion of {analysis.revision}"
    if canary and canary.revision == analysis.revision and analysis.mirroring:
        return f"on copies to canary {analysis.revision}"
    if canary and canary.revision == analysis.revision:
        return f"on canary {analysis.revision}"
    return f"on the last canary, {analysis.revision}"


def verdict(subject: Subject, analysis: AnalysisStatus) -> RenderableType:
    """The verdict in words."""
    word = Text(analysis.verdict, style=_COLOURS[analysis.verdict])
    return Text.assemble(word, f" {title(subject, analysis)} ({analysis.reason}): {analysis.message}")


def figures(analysis: AnalysisStatus) -> RenderableType:
    """Each objective's counts and e-value, with how near it is to a rollback."""
    tested = "REVISION" if analysis.watching else "CANARY"
    rows = [
        (
            entry.objective,
            of(entry.bad, entry.requests),
            of(entry.stable_bad, entry.stable_requests),
            f"{number(entry.e_value)} of {number(entry.threshold)}",
            bar(entry),
        )
        for entry in analysis.evidence
    ]
    return table(("OBJECTIVE", f"BAD OF {tested}", "BAD OF STABLE", "E-VALUE", "AGAINST"), rows, right=("E-VALUE",))


def bar(entry: ObjectiveEvidence) -> Text:
    """How far the evidence has come to a rollback, on the scale of logarithms on which it grows."""
    share = 0.0
    if entry.e_value > 1.0 and entry.threshold > 1.0:
        share = min(1.0, math.log(entry.e_value) / math.log(entry.threshold))
    full = int(share * _CELLS)  # full only where it fails
    style = BAD if share >= 1.0 else WAITING if share >= 0.5 else GOOD
    return Text.assemble(("█" * full, style), ("░" * (_CELLS - full), QUIET))


def explained(analysis: AnalysisStatus) -> Iterator[str]:
    """Each objective's evidence in a sentence.

    That a sound canary's e-value ever reaches x has a chance of at most 1/x: Ville's inequality, Étude critique de la
    notion de collectif, 1939.
    """
    who = "the revision" if analysis.watching else "the canary"
    for entry in analysis.evidence:
        beside = of(entry.stable_bad, entry.stable_requests)
        begin = f"{entry.objective}: bad were {of(entry.bad, entry.requests)} of {who}, {beside} of stable. "
        reached = f"The e-value is {number(entry.e_value)}; at {number(entry.threshold)} it fails. "
        if entry.e_value >= entry.threshold:
            chance = f"a sound revision would get this far at most once in {number(entry.e_value)} rollouts"
            yield f"{begin}{reached}That is reached: {chance}, however often one looks."
        elif entry.e_value > 1.0:
            yield f"{begin}{reached}There is some evidence against it, too little to act on."
        else:
            yield f"{begin}{reached}There is no evidence against it."


def blamed(analysis: AnalysisStatus) -> list[Text]:
    """What the operator holds responsible, in its words, with traces that show it."""
    blame = analysis.blame
    if blame is None:
        return []
    share = f" ({percent(blame.share)} of the difference)" if blame.share else ""
    lines = [Text.assemble((f"{blame.stage}{share}", "bold"), f": {blame.message}")]
    if blame.exemplars:
        lines.append(Text(f"traces that show it: {', '.join(blame.exemplars)}"))
    return lines


def mirrored(mirror: MirrorStatus) -> RenderableType:
    """How the answers to copied requests compare with those that users got, and where they differ most."""
    low, high = (percent(bound or 0.0) for bound in (mirror.agreement_low, mirror.agreement_high))
    lines = [Text(f"{percent(mirror.agreement or 0.0)} alike ({low} to {high}) in {mirror.requests} copied requests")]
    if mirror.failed:
        lines.append(Text(f"{mirror.failed} got no answer from the canary alone", style=BAD))
    if mirror.flips:
        told = ", ".join(f"{flip.stable} → {flip.canary} ({flip.texts})" for flip in mirror.flips)
        lines.append(Text(f"labels that changed: {told}"))
    if mirror.slices:
        told = ", ".join(f"{one.name} {percent(one.agreement)} of {one.texts}" for one in mirror.slices)
        lines.append(Text(f"least alike: {told}"))
    return Group(*lines)


def slo(subject: Subject) -> RenderableType | None:
    """What users saw; None where nothing serves."""
    seen, met = subject.status.slo, subject.condition(reasons.SLO_MET)
    if seen is None:
        return None
    latency = "".join(f", {name} {value}" for name, value in (("p50", seen.p50), ("p99", seen.p99)) if value)
    state = {"True": "met: ", "False": "missed: "}.get(met.status, "") if met else ""
    first = Text.assemble(
        truth(met.status if met else "", state),
        f"{seen.requests} requests in the last {subject.policy.window}{latency}",
    )
    return Group(first, *(Text(line) for line in seen.objectives))
