"""What the evaluation data is like: duplicates, leakage, suspicious labels, personal data, balance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from tapchanger_serving.build.answers import Floats
from tapchanger_serving.build.dataset import Rows
from tapchanger_serving.build.exported import Exported
from tapchanger_serving.build.gates.classified import Labelled, MultiLabelled, classified
from tapchanger_serving.build.gates.duplicates import Seen, fingerprint
from tapchanger_serving.build.gates.personal import kinds_in
from tapchanger_serving.build.gates.resampling import wilson
from tapchanger_serving.build.gates.results import Evidence, UnanswerableError, at_least, at_most, unanswered
from tapchanger_serving.build.gates.samples import Mask
from tapchanger_serving.contract.evidence import ClassShare, DataQuality, PersonalData, PersonalKind, Suspicion
from tapchanger_serving.contract.gates import DataGate
from tapchanger_serving.contract.messages import GateResult

_EXAMPLES = 10
_CLASSES = 50


def quality(rows: Rows, calibration: Rows | None, model: Exported, reference: Floats) -> DataQuality:
    """All figures of the rows; `calibration` are the texts that must not be among them, `reference` PyTorch's answers."""
    numbers = rows.numbered()
    prints = [fingerprint(text) for text in rows.whole()]
    seen, matches = Seen(), []
    for one in prints:
        matches.append(seen.match(one))
        seen.add(one)
    leaks = None
    if calibration is not None:
        known = Seen(fingerprint(text) for text in calibration.whole())
        leaks = _suspicion((known.match(one) is not None for one in prints), numbers)
    kinds = [kinds_in(text) for text in rows.whole()]
    sample = _sample(rows, model, reference)
    return DataQuality(
        rows=len(rows),
        duplicates=_suspicion((match == "exact" for match in matches), numbers),
        near_duplicates=_suspicion((match == "near" for match in matches), numbers),
        leakage=leaks,
        label_noise=_suspicion(label_noise(sample), numbers) if isinstance(sample, Labelled) else None,
        personal_data=_personal(kinds, numbers),
        personal_rows=_suspicion((bool(kind) for kind in kinds), numbers),
        classes=_classes(sample, model) if sample is not None else (),
    )


def label_noise(sample: Labelled) -> Mask:
    """Rows whose label the model confidently contradicts.

    As in confident learning (Northcutt et al. 2021, Confident Learning: Estimating Uncertainty in Dataset Labels, eq. 1): a
    label is confident where its score reaches the mean score that it has among the rows given it; a row is suspicious if
    the highest of its confident labels is not the one given.
    """
    scores = sample.scores.astype(np.float64)
    given = np.bincount(sample.truth, minlength=scores.shape[1])
    sums = np.array([scores[sample.truth == label, label].sum() for label in range(scores.shape[1])])
    bars = np.where(given > 0, sums / np.maximum(given, 1), np.inf)
    confident = np.where(scores >= bars, scores, -1.0)
    suspicious: Mask = (confident.max(axis=1) >= 0) & (confident.argmax(axis=1) != sample.truth)
    return suspicious


def _sample(rows: Rows, model: Exported, reference: Floats) -> Labelled | MultiLabelled | None:
    if model.task != "text-classification" or not rows.labels:
        return None
    try:
        return classified(rows.labels, reference, model)
    except UnanswerableError:
        return None


def _suspicion(found: Iterable[bool] | Mask, numbers: npt.NDArray[np.intp]) -> Suspicion:
    mask = np.array(list(found), dtype=bool)
    return Suspicion(
        share=round(float(mask.mean()), 6),
        count=int(np.count_nonzero(mask)),
        examples=tuple(int(number) for number in numbers[mask][:_EXAMPLES]),
    )


def _personal(kinds: list[set[PersonalKind]], numbers: npt.NDArray[np.intp]) -> tuple[PersonalData, ...]:
    where: defaultdict[PersonalKind, list[int]] = defaultdict(list)
    for number, found in zip(numbers, kinds, strict=True):
        for kind in found:
            where[kind].append(int(number))
    return tuple(
        PersonalData(kind=kind, count=len(rows), examples=tuple(rows[:_EXAMPLES]))
        for kind, rows in sorted(where.items())
    )


def _classes(sample: Labelled | MultiLabelled, model: Exported) -> tuple[ClassShare, ...]:
    if isinstance(sample, Labelled):
        counts = np.bincount(sample.truth, minlength=sample.scores.shape[1])
    else:
        counts = sample.truth.sum(axis=0)
    names = model.labels if len(model.labels) == len(counts) else tuple(map(str, range(len(counts))))
    shares = [
        ClassShare(label=name, count=int(count), share=round(float(count / len(sample)), 6))
        for name, count in zip(names, counts, strict=True)
    ]
    shares.sort(key=lambda share: share.count)
    return tuple(shares[:_CLASSES])


def judge(gate: DataGate, found: DataQuality) -> list[GateResult]:
    """Each bound that is given against its figure."""
    both = Suspicion(
        share=found.duplicates.share + found.near_duplicates.share,
        count=found.duplicates.count + found.near_duplicates.count,
        examples=tuple(sorted({*found.duplicates.examples, *found.near_duplicates.examples}))[:_EXAMPLES],
    )
    shares = (
        ("duplicates", gate.max_duplicates, both, ""),
        ("leakage", gate.max_leakage, found.leakage, "nothing to compare with; write engine.calibrationData"),
        ("label noise", gate.max_label_noise, found.label_noise, "it needs one label per text that the model knows"),
        ("personal data", gate.max_personal_data, found.personal_rows, ""),
    )
    results = [
        unanswered(f"data {name}", f"≤ {bound:g}", why) if share is None else _at_most(name, bound, share, found.rows)
        for name, bound, share, why in shares
        if bound is not None
    ]
    if gate.min_class_share is not None:
        results.append(_balance(gate.min_class_share, found))
    return results


def _at_most(name: str, bound: float, share: Suspicion, rows: int) -> GateResult:
    found = Evidence(share.share, rows, wilson(share.share, rows), share.examples, f"{share.count} rows found")
    return at_most(f"data {name}", found, bound)


def _balance(bound: float, found: DataQuality) -> GateResult:
    if not found.classes:
        return unanswered(
            "data class share", f"≥ {bound:g}", "it needs text classification and labels that the model knows"
        )
    rarest = found.classes[0]
    detail = f"rarest label {rarest.label}, {rarest.count} rows"
    return at_least(
        "data class share", Evidence(rarest.share, found.rows, wilson(rarest.share, found.rows), detail=detail), bound
    )
