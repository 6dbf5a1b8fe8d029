"""What labels say of the answers, and of themselves: accuracy, calibration, the worst slices, and why labels may mislead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tapchanger_operator.api.base import timestamp, unix
from tapchanger_operator.api.quality import QualityStatus, RevisionQuality, SliceQuality
from tapchanger_operator.api.status import TransformerDeploymentStatus
from tapchanger_operator.decide import calibration
from tapchanger_operator.decide.explain import percent
from tapchanger_operator.decide.objectives import window_of
from tapchanger_operator.decide.state import State
from tapchanger_operator.snapshot import Silence
from tapchanger_serving.contract.labels import KEPT, LabelWindow
from tapchanger_serving.contract.windows import Windows

EVERY_SECONDS: Final = 10.0
WORST: Final = 5
LEAST_IN_SLICE: Final = 10
"""Labels that a slice must have to be told."""
LEAST_TEXTS: Final = 30
"""Answers of one kind, or of one revision, from which on it is said how many of them are labelled."""
LEAST_LABELS: Final = 100
"""Labels from which on it is said where they may come from."""
TIMES: Final = 3.0
"""A share of labels is much larger than another where it is so many times as large, beyond chance by :data:`CERTAIN`."""
CERTAIN: Final = 4.0
"""Standard deviations."""
ALWAYS: Final = 0.99
MOSTLY: Final = 0.5


def due(status: TransformerDeploymentStatus, now: float) -> float | None:
    """Since when (Unix seconds) answers are asked about; None where nothing serves, or the figures are of just now."""
    stable, known = status.stable, status.quality
    if stable is None or stable.since is None:
        return None
    if known and known.revision == stable.revision and now - unix(known.at) < EVERY_SECONDS:
        return None
    return now - KEPT


def follow(
    before: QualityStatus | None, state: State, windows: Windows | Silence | None, now: float
) -> QualityStatus | None:
    """The quality of what serves; None as long as nothing is labelled."""
    if state.stable is None:
        return None
    if windows is None or isinstance(windows, Silence):
        return before if before and before.revision == state.stable.revision else None
    beside = {role: (revision, window_of(windows, revision).labels) for role, revision in _beside(state).items()}
    stable = window_of(windows, state.stable.revision).labels
    if not stable.labelled and not any(labels.labelled for _, labels in beside.values()):
        return None
    return _told(state.stable.revision, stable, beside, now)


def _beside(state: State) -> dict[str, str]:
    """Revisions that serve beside the stable one, by what they are."""
    found = {f"arm {arm.name}": arm.revision for arm in state.arms if arm.revision and arm.weight}
    if state.canary and state.canary.weight:
        found["canary"] = state.canary.revision
    return {role: revision for role, revision in found.items() if state.stable and revision != state.stable.revision}


def _told(
    revision: str, labels: LabelWindow, beside: Mapping[str, tuple[str, LabelWindow]], now: float
) -> QualityStatus:
    others = [_other(role, name, found) for role, (name, found) in beside.items()]
    warnings = [
        *_by_answer(labels),
        *_by_revision(labels, {role: found for role, (_, found) in beside.items()}),
        *_loops(labels),
    ]
    at = timestamp(now)
    if not labels.labelled:
        message = "none of the stable revision's answers have been labelled"
        return QualityStatus(revision=revision, message=message, others=others, warnings=warnings, at=at)
    accuracy = labels.right / labels.labelled
    low, high = calibration.accuracy_interval(labels.labelled, labels.right)
    sure, even = calibration.calibration(labels.bins), calibration.adjusted(labels)
    message = f"{percent(accuracy)} of {labels.labelled} labelled answers are right ({percent(low)} to {percent(high)})"
    if warnings:
        message = f"{message}; read the warnings: the labels may be no fair sample"
    return QualityStatus(
        revision=revision,
        message=message,
        labelled=labels.labelled,
        share=_rounded(_share(labels)),
        accuracy=round(accuracy, 4),
        low=round(low, 4),
        high=round(high, 4),
        adjusted=_rounded(even),
        ece=_rounded(sure.ece if sure else None),
        ece_low=_rounded(sure.low if sure else None),
        ece_high=_rounded(sure.high if sure else None),
        brier=_rounded(labels.brier / labels.sure if labels.sure else None),
        slices=_worst(labels),
        others=others,
        warnings=warnings,
        at=at,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _share(labels: LabelWindow) -> float | None:
    texts = sum(one.texts for one in labels.answered)
    return min(1.0, sum(one.labelled for one in labels.answered) / texts) if texts else None


def _other(role: str, revision: str, labels: LabelWindow) -> RevisionQuality:
    low, high = calibration.accuracy_interval(labels.labelled, labels.right)
    return RevisionQuality(
        revision=revision,
        role=role,
        labelled=labels.labelled,
        share=_rounded(_share(labels)),
        accuracy=_rounded(labels.right / labels.labelled if labels.labelled else None),
        low=round(low, 4),
        high=round(high, 4),
    )


def _worst(labels: LabelWindow) -> list[SliceQuality]:
    found = []
    for one in labels.slices:
        if one.labelled >= LEAST_IN_SLICE:
            low, high = calibration.accuracy_interval(one.labelled, one.right)
            accuracy = round(one.right / one.labelled, 4)
            found.append(
                SliceQuality(
                    name=one.name, labelled=one.labelled, accuracy=accuracy, low=round(low, 4), high=round(high, 4)
                )
            )
    return sorted(found, key=lambda one: (one.accuracy, one.name))[:WORST]


def _by_answer(labels: LabelWindow) -> list[str]:
    """Labels that come for one kind of answer more than for others."""
    kinds = [one for one in labels.answered if one.texts >= LEAST_TEXTS]
    if len(kinds) < 2:
        return []
    kinds.sort(key=lambda one: one.labelled / one.texts)
    least, most = kinds[0], kinds[-1]
    if not _much_more((least.labelled, least.texts), (most.labelled, most.texts)):
        return []
    labelled = [one for one in kinds if one.labelled]
    if len(labelled) == 1:
        return [
            f"labels exist only for the answer {most.label!r}: what was answered otherwise and wrongly is never seen, so that"
            " the accuracy is that of this answer alone"
        ]
    return [
        f"{percent(most.labelled / most.texts)} of the answers {most.label!r} are labelled, and"
        f" {percent(least.labelled / least.texts)} of {least.label!r}: the accuracy is mostly that of the former;"
        " `adjusted` weighs answers as they occur"
    ]


def _by_revision(labels: LabelWindow, beside: Mapping[str, LabelWindow]) -> list[str]:
    """Labels that come for one revision more than for another at the same time."""
    found = []
    mine = _labelled(labels)
    for role, others in beside.items():
        theirs = _labelled(others)
        if min(mine[1], theirs[1]) < LEAST_TEXTS:
            continue
        shares = (theirs[0] / theirs[1], mine[0] / mine[1])
        few, many = sorted((theirs, mine), key=lambda one: one[0] / one[1])
        if _much_more(few, many):
            found.append(
                f"{percent(shares[0])} of the answers of {role} are labelled, and {percent(shares[1])} of the stable revision's:"
                " either its labels have not come yet, or who labels looks at one of them more"
            )
    return found


def _labelled(labels: LabelWindow) -> tuple[int, int]:
    return sum(one.labelled for one in labels.answered), sum(one.texts for one in labels.answered)


def _much_more(few: tuple[int, int], many: tuple[int, int]) -> bool:
    less, more = few[0] / few[1], many[0] / many[1]
    return more >= TIMES * less and calibration.differs(few, many) >= CERTAIN


def _loops(labels: LabelWindow) -> list[str]:
    """Labels that depend on the answer."""
    if labels.labelled < LEAST_LABELS:
        return []
    found = []
    if labels.corrections > MOSTLY * labels.labelled:
        part = percent(labels.corrections / labels.labelled)
        found.append(
            f"{part} of the labels are corrections: people correct what is wrong and leave what is right, so that the accuracy"
            " is too low"
        )
    right = labels.right / labels.labelled
    if right >= ALWAYS and calibration.surprise(labels.bins) >= CERTAIN:
        sure = sum(one.confidence for one in labels.bins) / max(1, labels.sure)
        found.append(
            f"{percent(right)} of the labels equal the answer, while the model itself is {percent(sure)} sure: they may be made"
            " from the answer, and then they say nothing of it"
        )
    return found
