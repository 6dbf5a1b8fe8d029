"""Whether users of the stable revision got what was promised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tapchanger_operator.api import reasons
from tapchanger_operator.api.spec import TransformerDeploymentSpec
from tapchanger_operator.decide.blame import dominant
from tapchanger_operator.decide.objectives import counts, objectives
from tapchanger_serving.contract.windows import ClockSkew, RevisionWindow


def slo_reason(
    spec: TransformerDeploymentSpec, window: RevisionWindow, skews: Sequence[ClockSkew] = ()
) -> tuple[str, str, list[str]]:
    """(a key of :data:`REASON_BY_SLO`, sentence, one line for each objective) of the stable revision over `slo.window`; `skews`
    are the nodes whose clocks differ from the routers'.
    """
    if window.requests == 0:
        return "Unknown", f"no requests in the last {spec.slo.window}", []
    lines, missed, judged = [], [], 0
    for objective in objectives(spec):
        seen = counts(objective, window)
        if objective.labelled and seen.requests < objective.min_labels:
            lines.append(f"{objective.name}: {seen.requests} labels so far, {objective.min_labels} needed")
            continue
        judged += 1
        if objective.labelled:
            lines.append(f"{objective.name}: {100 * (1 - seen.rate):.3f}% of {seen.requests} labelled answers")
            missed += [objective.name] if seen.rate > objective.budget else []
            continue
        met = seen.rate <= objective.budget
        lines.append(f"{objective.name}: {100 * (1 - seen.rate):.3f}% of {seen.requests} requests")
        if not met:
            mostly = dominant(objective, window, skews)
            missed.append(f"{objective.name} ({mostly})" if mostly else objective.name)
    if not judged:
        return "Unlabelled", f"too few labels in the last {spec.slo.window}: {', '.join(lines)}", lines
    if missed:
        return "False", f"missed over the last {spec.slo.window}: {', '.join(missed)}", lines
    return "True", f"all objectives kept over the last {spec.slo.window} ({window.requests} requests)", lines


REASON_BY_SLO: Final = {
    "True": reasons.OBJECTIVES_MET,
    "False": reasons.OBJECTIVE_BREACHED,
    "Unknown": reasons.NO_REQUESTS,
    "Unlabelled": reasons.TOO_FEW_LABELS,
}
