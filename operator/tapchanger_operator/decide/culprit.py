"""A blame as status and the rollback's reason have it, with traces of real requests that show it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tapchanger_operator.api.analysis import BlameStatus
from tapchanger_operator.decide.blame import blame
from tapchanger_operator.decide.evidence import Objective
from tapchanger_serving.contract.windows import ClockSkew, RevisionWindow

_EXEMPLARS: Final = 3
_IN_WORDS: Final = 2


def culprit_of(
    objective: Objective, canary: RevisionWindow, stable: RevisionWindow, skews: Sequence[ClockSkew] = ()
) -> BlameStatus | None:
    """What is to blame for a failed objective; None where the canary has no bad request of it."""
    culprit = blame(objective, canary, stable, skews)
    if culprit is None:
        return None
    failing = culprit.stage == "Errors" or objective.kind == "availability"
    fitting = [
        one.trace_id
        for one in canary.exemplars
        if (one.code is not None) == failing and (failing or one.seconds > (objective.threshold_seconds or 0.0))
    ]
    return BlameStatus(
        stage=culprit.stage,
        objective=objective.name,
        message=culprit.message,
        share=round(culprit.share, 3),
        exemplars=fitting[:_EXEMPLARS],
    )


def in_words(culprit: BlameStatus) -> str:
    """The sentence that goes into the reason of a rollback, with what to search for in a store of traces."""
    if not culprit.exemplars:
        return culprit.message
    return f"{culprit.message}; for example trace {' and '.join(culprit.exemplars[:_IN_WORDS])}"
