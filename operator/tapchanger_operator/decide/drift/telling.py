"""The record in words and figures, from what is remembered."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from tapchanger_operator.api.base import timestamp
from tapchanger_operator.api.drift import DriftAccuracy, DriftBucket, DriftFigure, DriftStatus
from tapchanger_operator.decide.drift import figures, hours, monitor
from tapchanger_operator.decide.drift.accuracy import estimate
from tapchanger_operator.decide.drift.coarse import Coarse
from tapchanger_operator.decide.drift.memory import Memory, Recent
from tapchanger_operator.decide.drift.monitor import INPUTS
from tapchanger_operator.decide.drift.season import Compared
from tapchanger_serving.contract.drift import BY_NAME, DriftWindow

_TOLD: Final = 6
_BUCKETS: Final = 4
_LARGEST: Final = 1e12


def unknown(revision: str, memory: Memory, window: DriftWindow, now: float) -> DriftStatus:
    """The record where nothing says what texts are compared with."""
    message = "the servers have not announced the reference yet; they do with the first requests"
    if window.steps:
        message = (
            "the engine holds no reference; the build describes one where gates.evaluation or drift.reference.uri names "
            "30 texts and more"
        )
    return DriftStatus(
        verdict="unknown",
        message=message,
        revision=revision,
        at=timestamp(now),
        state=replace(memory, until=window.until).to_dict(),
    )


def told(
    revision: str, memory: Memory, first: int | None, compared: Compared, threshold: float, now: float
) -> DriftStatus:
    """The record of a memory. `threshold` is the log of the evidence that alarms; the last step was `compared` with that."""
    state, at = memory.to_dict(), timestamp(now)
    if not memory.reference:
        message = f"the reference is being learned: {memory.learned.texts} of {first} texts"
        words = f"the first {first} texts"
        return DriftStatus(
            verdict="learning",
            message=message,
            revision=revision,
            reference=words,
            texts=0,
            repeats=memory.repeats,
            at=at,
            state=state,
        )
    found = monitor.culprit(memory.monitor, memory.reference) if memory.monitor.alarmed else None
    reference = compared.reference or memory.reference
    figures_told = _figures(reference, memory.recent)
    buckets = _buckets(reference[found.signal], memory.recent) if found else []
    record = DriftStatus(
        verdict="none",
        message="",
        revision=revision,
        reference=_named(memory, compared),
        evidence=_figure(min(math.exp(min(memory.monitor.evidence(memory.reference), 50.0)), _LARGEST)),
        threshold=_figure(math.exp(threshold)),
        texts=memory.texts,
        repeats=memory.repeats,
        mmd=_mmd(reference, memory.recent),
        figures=figures_told,
        buckets=buckets,
        accuracy=_accuracy(memory, threshold),
        at=at,
        state=state,
    )
    if found is None:
        return record.model_copy(update={"message": _quiet(record)})
    changes = {"verdict": found.feature, "feature": found.feature, "signal": found.signal}
    record = record.model_copy(update={**changes, "since": timestamp(found.since)})
    return record.model_copy(update={"message": _alarm(record)})


def _named(memory: Memory, compared: Compared) -> str:
    """What traffic is compared with."""
    plain = f"{memory.known.texts} texts" if memory.known else f"the first {memory.learned.texts} texts"
    if compared.hours is None:
        return plain
    if compared.slot is None:
        known, slots = compared.hours.known(), hours.SLOTS[compared.hours.like]
        return f"{plain} of the reference ({known} of {slots} hours are known)"
    number = max(sum(counts) for counts in compared.slot.counts.values())
    when = "days" if compared.hours.like == "hours" else "weeks"
    return f"{number} texts of the same hour of {compared.slot.times} {when}"


def _quiet(record: DriftStatus) -> str:
    if not record.texts:
        return f"no texts yet to compare with {record.reference}"
    evidence = f"evidence {record.evidence:.3g} of {record.threshold:.3g}"
    what = record.reference if " of the " in record.reference else f"{record.reference} of the reference"
    return f"texts and answers are like {what} ({evidence})"


def _alarm(record: DriftStatus) -> str:
    title = BY_NAME[record.signal or ""].title
    told = "; ".join(f"{one.name}: {100 * one.reference:.3g} % → {100 * one.now:.3g} %" for one in record.buckets[:2])
    by = next((f", PSI {one.psi:.2f}" for one in record.figures if one.signal == record.signal), "")
    return f"{record.feature} moved since {record.since}: {title}{by}" + (f" ({told})" if told else "")


def _figures(reference: Mapping[str, Coarse], recent: Recent) -> list[DriftFigure]:
    """The signals that differ most by PSI; of the sketch the coordinate that does."""
    found = []
    for name, coarse in reference.items():
        counts = recent.counts.get(name)
        if not counts or sum(counts) < 1:
            continue
        statistic, chance = figures.chi_square(coarse, counts)
        distance = round(figures.ks(coarse, counts), 4) if coarse.ordered else None
        found.append(
            DriftFigure(
                feature=BY_NAME[name].feature,
                signal=name,
                psi=round(figures.psi(coarse, counts), 4),
                ks=distance,
                chi_square=round(statistic, 2),
                p_value=_figure(chance),
            )
        )
    found.sort(key=lambda one: -one.psi)
    sketch = [one for one in found if one.feature == "embedding"][:1]
    rest = [one for one in found if one.feature != "embedding"]
    return sorted([*rest, *sketch], key=lambda one: -one.psi)[:_TOLD]


def _buckets(coarse: Coarse, recent: Recent) -> list[DriftBucket]:
    counts = recent.counts.get(coarse.signal, (0.0,) * len(coarse.counts))
    now = figures.shares(counts)
    order = sorted(range(len(now)), key=lambda k: -abs(now[k] - coarse.shares[k]))[:_BUCKETS]
    return [DriftBucket(name=coarse.name(k), reference=round(coarse.shares[k], 4), now=round(now[k], 4)) for k in order]


def _mmd(reference: Mapping[str, Coarse], recent: Recent) -> float | None:
    sketch = {name: coarse for name, coarse in reference.items() if BY_NAME[name].feature == "embedding"}
    found = figures.mmd(sketch, recent.counts)
    return None if found is None else round(found, 4)


def _accuracy(memory: Memory, threshold: float) -> DriftAccuracy | None:
    if memory.known is None:
        return None
    changed = memory.monitor.alarmed and bool(monitor.moved(memory.monitor, memory.reference, threshold / 2) & INPUTS)
    found = estimate(memory.known, memory.recent.sure, inputs_moved=changed)
    if found is None:
        return None
    return DriftAccuracy(
        estimate=round(found.value, 4),
        low=round(found.low, 4),
        high=round(found.high, 4),
        reliable=found.reliable,
        message=found.why,
    )


def _figure(value: float) -> float:
    return float(f"{value:.4g}")
