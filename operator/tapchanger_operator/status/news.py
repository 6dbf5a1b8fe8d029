"""What of a status is news, and what are figures that move with every request."""

from __future__ import annotations

from typing import Final

from tapchanger_operator.api import reasons
from tapchanger_operator.api.base import unix
from tapchanger_operator.api.drift import DriftAccuracy, DriftStatus
from tapchanger_operator.api.quality import QualityStatus
from tapchanger_operator.api.status import Condition, SloStatus, TransformerDeploymentStatus

REQUESTS: Final = 0.1
"""The part by which the requests of a window must grow or shrink to be worth writing."""
PERCENTILE: Final = 0.25
"""The same for its percentiles."""
LABEL_SECONDS: Final = 60.0
"""How long a few more labels wait."""
_DRIFT: Final = ("verdict", "revision", "reference", "feature", "signal", "since")


def settled(status: TransformerDeploymentStatus, before: TransformerDeploymentStatus) -> TransformerDeploymentStatus:
    """The status with the figures of `before` wherever those tell the same: of drift, of labels, and of the objectives."""
    slo = status.slo if _moved(before.slo, status.slo) else before.slo
    drift = before.drift if _essence(before.drift) == _essence(status.drift) else status.drift
    quality = status.quality if _labelled(before.quality, status.quality) else before.quality
    quiet = {reasons.SLO_MET} if slo is before.slo else set()
    quiet |= {reasons.DRIFT_FREE} if drift is before.drift else set()
    old = {one.type: one for one in before.conditions}
    conditions = [_worded(one, old.get(one.type)) if one.type in quiet else one for one in status.conditions]
    return status.model_copy(update={"slo": slo, "drift": drift, "quality": quality, "conditions": conditions})


def _worded(new: Condition, old: Condition | None) -> Condition:
    """A condition that is as before, in the words of before."""
    alike = old is not None and (old.status, old.reason) == (new.status, new.reason)
    return new.model_copy(update={"message": old.message}) if alike and old else new


def _essence(record: DriftStatus | None) -> DriftStatus | None:
    """The record without figures, the monitor's state, and the sentence made of them."""
    if record is None:
        return None
    sure = record.accuracy and DriftAccuracy(estimate=0, low=0, high=0, reliable=record.accuracy.reliable)
    news = {name: getattr(record, name) for name in _DRIFT}
    return DriftStatus(**news, message="", at="", accuracy=sure)


def _moved(old: SloStatus | None, new: SloStatus | None) -> bool:
    """Whether the figures of the objectives say something else than before."""
    if old is None or new is None or len(old.objectives) != len(new.objectives):
        return old != new
    if abs(new.requests - old.requests) > REQUESTS * old.requests:
        return True
    return any(_apart(one, other) for one, other in ((old.p50, new.p50), (old.p90, new.p90), (old.p99, new.p99)))


def _labelled(old: QualityStatus | None, new: QualityStatus | None) -> bool:
    """Whether so many labels have come that their figures are worth telling anew, or they say something else."""
    if old is None or new is None or old.revision != new.revision or len(old.warnings) != len(new.warnings):
        return old != new
    counts = [{"": one.labelled} | {other.revision: other.labelled for other in one.others} for one in (old, new)]
    if counts[0] != counts[1] and unix(new.at) - unix(old.at) >= LABEL_SECONDS:
        return True
    return counts[0].keys() != counts[1].keys() or any(
        abs(counts[1][name] - count) > REQUESTS * count for name, count in counts[0].items()
    )


def _apart(old: str | None, new: str | None) -> bool:
    try:
        return abs(_length(new) - _length(old)) > PERCENTILE * _length(old) if old and new else old != new
    except ValueError:
        return old != new


def _length(text: str) -> float:
    """Seconds of what :func:`~tapchanger_operator.api.base.readable` wrote."""
    return float(text[:-2]) / 1000 if text.endswith("ms") else float(text[:-1])
