"""What is to blame for a rollback, once the spans are there: a verdict takes a second, spans of slow requests take longer."""

from __future__ import annotations

from dataclasses import replace

from tapchanger_operator.api import reasons
from tapchanger_operator.api.analysis import AnalysisStatus, BlameStatus
from tapchanger_operator.api.base import unix
from tapchanger_operator.api.spec import TransformerDeploymentSpec
from tapchanger_operator.api.status import Rejection, RetiringStatus, TransformerDeploymentStatus
from tapchanger_operator.decide.culprit import culprit_of, in_words
from tapchanger_operator.decide.objectives import objectives, window_of
from tapchanger_operator.decide.state import Change, Outcome
from tapchanger_serving.contract.windows import Windows


def due(status: TransformerDeploymentStatus) -> float | None:
    """Since when (Unix seconds) the windows are wanted of a rollback that nothing could be blamed for; None for none.

    It is asked about as long as the revision's servers are kept.
    """
    retiring = _unexplained(status)
    return unix(retiring.since) if retiring and retiring.since else None


def explain(
    spec: TransformerDeploymentSpec,
    status: TransformerDeploymentStatus,
    outcome: Outcome,
    analysis: AnalysisStatus | None,
    windows: Windows,
) -> tuple[Outcome, AnalysisStatus | None]:
    """The outcome and the record of the analysis with the blame that `windows` allow, if they allow one now."""
    retiring, stable = _unexplained(status), outcome.state.stable
    if retiring is None or stable is None or analysis is None or analysis.blame is None or outcome.state.canary:
        return outcome, analysis
    unknown = analysis.blame
    broken = next((objective for objective in objectives(spec) if objective.name == unknown.objective), None)
    if broken is None:
        return outcome, analysis
    found = culprit_of(
        broken, window_of(windows, retiring.revision), window_of(windows, stable.revision), windows.skews
    )
    if found is None or found.stage == "Unknown":
        return outcome, analysis
    known = analysis.model_copy(update={"blame": found, "message": _reworded(analysis.message, unknown, found)})
    rejected = tuple(_explained(entry, retiring.revision, unknown, found) for entry in outcome.state.rejected)
    told = Change("Warning", reasons.BLAMED, f"{retiring.revision} was rolled back: {in_words(found)}")
    return Outcome(replace(outcome.state, rejected=rejected), (*outcome.changes, told)), known


def _unexplained(status: TransformerDeploymentStatus) -> RetiringStatus | None:
    analysis = status.analysis
    if status.canary or analysis is None or analysis.verdict != "Fail" or analysis.watching:
        return None
    if analysis.blame is None or analysis.blame.stage != "Unknown":
        return None
    return next((other for other in status.retiring if other.revision == analysis.revision), None)


def _explained(entry: Rejection, revision: str, unknown: BlameStatus, found: BlameStatus) -> Rejection:
    if entry.revision != revision:
        return entry
    return entry.model_copy(update={"message": _reworded(entry.message, unknown, found)})


def _reworded(message: str, unknown: BlameStatus, found: BlameStatus) -> str:
    """`message` with the words for what was not known replaced."""
    return message.replace(in_words(unknown), in_words(found))
