"""The condition DriftFree."""

from __future__ import annotations

from tapchanger_operator.api import reasons
from tapchanger_operator.api.status import Condition
from tapchanger_operator.decide.drift.respond import drifted
from tapchanger_operator.snapshot import Silence
from tapchanger_operator.status.conditions import condition
from tapchanger_operator.status.situation import Situation


def drift_free(situation: Situation) -> Condition:
    """True where the texts look like the reference, False where something moved, Unknown where that can't be said."""
    record, window = situation.drift, situation.snapshot.drift_window
    if not situation.snapshot.spec.drift.enabled:
        return _unknown(reasons.NOT_WATCHED, "drift is not watched: drift.enabled is false")
    if situation.state.stable is None or situation.state.stable.since is None:
        return _unknown(reasons.NOT_WATCHED, "nothing serves yet")
    if record is None:
        if isinstance(window, Silence):
            return _unknown(reasons.OBSERVER_SILENT, window.why)
        return _unknown(reasons.DRIFT_NO_TEXTS, "no texts have been seen yet")
    if drifted(record):
        return condition(reasons.DRIFT_FREE, "False", reasons.DRIFTED, record.message)
    if record.verdict == "learning":
        return _unknown(reasons.DRIFT_LEARNING, record.message)
    if record.verdict == "unknown":
        return _unknown(reasons.DRIFT_NO_REFERENCE, record.message)
    if not record.texts:
        return _unknown(reasons.DRIFT_NO_TEXTS, record.message)
    return condition(reasons.DRIFT_FREE, "True", reasons.NO_DRIFT, record.message)


def _unknown(reason: str, message: str) -> Condition:
    return condition(reasons.DRIFT_FREE, "Unknown", reason, message)
