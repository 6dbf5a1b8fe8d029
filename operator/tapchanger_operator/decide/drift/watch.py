"""One look at the texts: from the observer's counts and what is remembered to the verdict and what is remembered next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from tapchanger_operator.api.base import seconds, timestamp, unix
from tapchanger_operator.api.drift import (
    FIRST_REQUESTS,
    DriftAccuracy,
    DriftBucket,
    DriftFigure,
    DriftSpec,
    DriftStatus,
    FirstRequests,
)
from tapchanger_operator.api.status import TransformerDeploymentStatus
from tapchanger_operator.decide.drift import figures, monitor
from tapchanger_operator.decide.drift.accuracy import estimate
from tapchanger_operator.decide.drift.coarse import Coarse, coarse_reference
from tapchanger_operator.decide.drift.memory import Learned, Memory, Recent
from tapchanger_serving.contract.drift import BY_NAME, LABEL, STEP, DriftStep, DriftWindow

INPUTS: Final = frozenset({"tokens", "vocabulary", "embedding"})
"""Features of the texts themselves; the others are of the answers."""
LOOK_SECONDS: Final = 20.0
"""Texts are looked at when the last step that was taken ended so long ago."""
_TOLD: Final = 6
_BUCKETS: Final = 4
_LARGEST: Final = 1e12


def log_threshold(spec: DriftSpec) -> float:
    """Log of the steps between two false alarms."""
    return math.log(max(seconds(spec.false_alarm_every) / STEP, 10.0))


def due(spec: DriftSpec, status: TransformerDeploymentStatus, now: float) -> tuple[str, float] | None:
    """The revision and the time (Unix seconds) from which on its texts are asked for; None where it is not time yet."""
    stable, known = status.stable, status.drift
    if not spec.enabled or stable is None or stable.since is None:
        return None
    memory = Memory.read(known.state) if known and known.revision == stable.revision else None
    if memory is None:
        return stable.revision, unix(stable.since)
    return (stable.revision, float(memory.until)) if now - memory.until >= LOOK_SECONDS else None


def watch(
    spec: DriftSpec, before: DriftStatus | None, revision: str, window: DriftWindow, *, evaluated: bool, now: float
) -> DriftStatus:
    """The record after the steps of `window`. `evaluated` says whether the build described a reference."""
    known = Memory.read(before.state) if before else None
    if before and known and not window.steps and (window.reference is None or known.reference):
        return before
    first = _first(spec, window, known, evaluated=evaluated)
    key = _key(spec, revision, window, known, first)
    memory = known if known and known.key == key else Memory(key, 0)
    if not memory.reference and first is None:
        if window.reference is None:
            return _unknown(revision, memory, window, now)
        memory = _compared(memory, window, frozenset(spec.features))
    if memory.reference and not monitor.fits(memory.monitor, memory.reference):
        memory = replace(memory, monitor=monitor.begin(memory.reference))
    for step in window.steps:
        memory = _step(spec, memory, step, first)
    memory = replace(memory, until=max(window.until, memory.until))
    return _told(spec, revision, memory, first, now)


def _first(spec: DriftSpec, window: DriftWindow, known: Memory | None, *, evaluated: bool) -> int | None:
    if isinstance(spec.reference, FirstRequests):
        return spec.reference.first_requests
    # A server announces its reference with the first text that it tells of: steps without one mean that it has none.
    waits = evaluated and not window.steps
    described = waits or window.reference is not None or (known is not None and known.known is not None)
    return None if spec.reference is not None or described else FIRST_REQUESTS


def _key(spec: DriftSpec, revision: str, window: DriftWindow, known: Memory | None, first: int | None) -> str:
    """A digest that was not announced lately is taken to be the last one known of the revision."""
    features = ",".join(spec.features)
    if first is not None:
        return f"first {first}/{revision}/{features}"
    start, end = f"{revision}/", f"/{features}"
    if window.reference is None and known and known.key.startswith(start) and known.key.endswith(end):
        return known.key
    return f"{start}{window.reference.digest if window.reference else ''}{end}"


def _compared(memory: Memory, window: DriftWindow, features: frozenset[str]) -> Memory:
    if window.reference is None:
        return memory
    reference = coarse_reference(window.reference.counts, window.reference.labels, features)
    return replace(memory, reference=reference, known=window.reference, monitor=monitor.begin(reference))


def _step(spec: DriftSpec, memory: Memory, step: DriftStep, first: int | None) -> Memory:
    if step.start < memory.until:
        return memory  # it was counted in an earlier look
    if not memory.reference:
        learned = memory.learned.plus(step)
        memory = replace(memory.counted(step), learned=learned)
        return _finished(spec, memory, learned) if first is not None and learned.texts >= first else memory
    binned = _binned(memory.reference, step)
    after = monitor.take(memory.monitor, memory.reference, binned, step.start, log_threshold(spec))
    recent = memory.recent.plus(binned, step.counts.get("confidence", {}), step.texts)
    return replace(memory.counted(step), monitor=after, recent=recent)


def _finished(spec: DriftSpec, memory: Memory, learned: Learned) -> Memory:
    reference = coarse_reference(learned.counts, learned.labels, frozenset(spec.features))
    return replace(
        memory, reference=reference, learned=Learned(texts=learned.texts), monitor=monitor.begin(reference), texts=0
    )


def _binned(reference: Mapping[str, Coarse], step: DriftStep) -> dict[str, tuple[int, ...]]:
    found = {name: coarse.binned(step.counts.get(name, {})) for name, coarse in reference.items() if name != LABEL}
    return {**found, LABEL: reference[LABEL].binned(step.labels)} if LABEL in reference else found


def _unknown(revision: str, memory: Memory, window: DriftWindow, now: float) -> DriftStatus:
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


def _told(spec: DriftSpec, revision: str, memory: Memory, first: int | None, now: float) -> DriftStatus:
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
    threshold = log_threshold(spec)
    found = monitor.culprit(memory.monitor, memory.reference) if memory.monitor.alarmed else None
    told = _figures(memory)
    buckets = _buckets(memory.reference[found.signal], memory.recent) if found else []
    record = DriftStatus(
        verdict="none",
        message="",
        revision=revision,
        reference=f"{memory.known.texts} texts" if memory.known else f"the first {memory.learned.texts} texts",
        evidence=_figure(min(math.exp(min(memory.monitor.evidence(memory.reference), 50.0)), _LARGEST)),
        threshold=_figure(math.exp(threshold)),
        texts=memory.texts,
        repeats=memory.repeats,
        mmd=_mmd(memory),
        figures=told,
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


def _quiet(record: DriftStatus) -> str:
    if not record.texts:
        return f"no texts yet to compare with {record.reference}"
    evidence = f"evidence {record.evidence:.3g} of {record.threshold:.3g}"
    return f"texts and answers are like {record.reference} of the reference ({evidence})"


def _alarm(record: DriftStatus) -> str:
    title = BY_NAME[record.signal or ""].title
    told = "; ".join(f"{one.name}: {100 * one.reference:.3g} % → {100 * one.now:.3g} %" for one in record.buckets[:2])
    by = next((f", PSI {one.psi:.2f}" for one in record.figures if one.signal == record.signal), "")
    return f"{record.feature} moved since {record.since}: {title}{by}" + (f" ({told})" if told else "")


def _figures(memory: Memory) -> list[DriftFigure]:
    """The signals that differ most by PSI; of the sketch the coordinate that does."""
    found = []
    for name, coarse in memory.reference.items():
        counts = memory.recent.counts.get(name)
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


def _mmd(memory: Memory) -> float | None:
    sketch = {name: coarse for name, coarse in memory.reference.items() if BY_NAME[name].feature == "embedding"}
    found = figures.mmd(sketch, memory.recent.counts)
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


def only_answers_moved(spec: DriftSpec, status: DriftStatus | None) -> bool:
    """Whether labels or confidence moved while there is hardly any evidence that the texts did."""
    memory = Memory.read(status.state) if status else None
    if memory is None or not memory.monitor.alarmed:
        return False
    threshold = log_threshold(spec)
    watched = {BY_NAME[name].feature for name in memory.reference}
    answers = monitor.moved(memory.monitor, memory.reference, threshold) - INPUTS
    inputs = monitor.moved(memory.monitor, memory.reference, threshold / 2) & INPUTS
    return bool(answers) and not inputs and bool(watched & INPUTS)


def _figure(value: float) -> float:
    return float(f"{value:.4g}")
