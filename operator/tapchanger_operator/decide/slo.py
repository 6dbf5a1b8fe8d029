"""Whether users of the stable revision got what was promised."""

from __future__ import annotations

from typing import Final

from tapchanger_operator.api import reasons
from tapchanger_operator.api.spec import TransformerDeploymentSpec
from tapchanger_operator.decide.blame import dominant
from tapchanger_operator.decide.judge import counts, objectives
from tapchanger_serving.contract.windows import RevisionWindow


def slo_reason(spec: TransformerDeploymentSpec, window: RevisionWindow) -> tuple[str, str, list[str]]:
    """(`True`/`False`/`Unknown`, sentence, one line for each objective) of the stable revision over `slo.window`."""
    if window.requests == 0:
        return "Unknown", f"no requests in the last {spec.slo.window}", []
    lines, missed = [], []
    for objective in objectives(spec):
        seen = counts(objective, window)
        met = seen.rate <= objective.budget
        lines.append(f"{objective.name}: {100 * (1 - seen.rate):.3f}% of {seen.requests} requests")
        if not met:
            mostly = dominant(objective, window)
            missed.append(f"{objective.name} ({mostly})" if mostly else objective.name)
    if missed:
        return "False", f"missed over the last {spec.slo.window}: {', '.join(missed)}", lines
    return "True", f"all objectives kept over the last {spec.slo.window} ({window.requests} requests)", lines


REASON_BY_SLO: Final = {
    "True": reasons.OBJECTIVES_MET,
    "False": reasons.OBJECTIVE_BREACHED,
    "Unknown": reasons.NO_REQUESTS,
}
