"""One look at the texts: from the observer's counts and what is remembered to the verdict and what is remembered next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from tapchanger_operator.api.base import seconds, unix
from tapchanger_operator.api.drift import FIRST_REQUESTS, DriftSpec, DriftStatus, FirstRequests
from tapchanger_operator.api.status import TransformerDeploymentStatus
from tapchanger_operator.decide.drift import monitor, season, telling
from tapchanger_operator.decide.drift.coarse import Coarse, coarse_reference
from tapchanger_operator.decide.drift.memory import Learned, Memory
from tapchanger_operator.decide.drift.monitor import INPUTS
from tapchanger_operator.decide.drift.season import Compared
from tapchanger_serving.contract.drift import BY_NAME, LABEL, STEP, DriftStep, DriftWindow

LOOK_SECONDS: Final = 20.0
"""Texts are looked at when the last step that was taken ended so long ago."""


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
    spec: DriftSpec,
    before: DriftStatus | None,
    revision: str,
    window: DriftWindow,
    *,
    evaluated: bool,
    now: float,
    kept: str | None = None,
) -> DriftStatus:
    """The record after the steps of `window`. `evaluated` says whether the build described a reference; `kept` is what was kept
    of like hours.
    """
    known = Memory.read(before.state) if before else None
    if before and known and not window.steps and (window.reference is None or known.reference):
        return before
    first = _first(spec, window, known, evaluated=evaluated)
    key = _key(spec, revision, window, known, first)
    memory = known if known and known.key == key else Memory(key, 0)
    if not memory.reference and first is None:
        if window.reference is None:
            return telling.unknown(revision, memory, window, now)
        memory = _compared(memory, window, frozenset(spec.features))
    if memory.reference and not monitor.fits(memory.monitor, memory.reference):
        memory = replace(memory, monitor=monitor.begin(memory.reference))
    compared = Compared(memory.reference)
    for step in window.steps:
        memory, compared = _step(spec, memory, step, first, compared, kept)
    memory = replace(memory, until=max(window.until, memory.until))
    return telling.told(revision, memory, first, compared, log_threshold(spec), now)


def _first(spec: DriftSpec, window: DriftWindow, known: Memory | None, *, evaluated: bool) -> int | None:
    if isinstance(spec.reference, FirstRequests):
        return spec.reference.first_requests
    # A server announces its reference with the first text that it tells of: steps without one mean that it has none.
    waits = evaluated and not window.steps
    described = waits or window.reference is not None or (known is not None and known.known is not None)
    return None if spec.reference is not None or described else FIRST_REQUESTS


def _key(spec: DriftSpec, revision: str, window: DriftWindow, known: Memory | None, first: int | None) -> str:
    """A digest that was not announced lately is taken to be the last one known of the revision."""
    features = ",".join(spec.features) + ("" if spec.compare.like == "reference" else f"/{spec.compare.like}")
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


def _step(
    spec: DriftSpec, memory: Memory, step: DriftStep, first: int | None, compared: Compared, kept: str | None
) -> tuple[Memory, Compared]:
    if step.start < memory.until:
        return memory, compared  # it was counted in an earlier look
    if not memory.reference:
        learned = memory.learned.plus(step)
        memory = replace(memory.counted(step), learned=learned)
        done = first is not None and learned.texts >= first
        return _finished(spec, memory, learned) if done else memory, compared
    binned = _binned(memory.reference, step)
    memory, compared = season.compared(spec.compare.like, memory, compared, binned, step.start, kept)
    pools = compared.slot is None
    after = monitor.take(memory.monitor, compared.reference, binned, step.start, log_threshold(spec), pools=pools)
    recent = memory.recent.plus(binned, step.counts.get("confidence", {}), step.texts)
    return replace(memory.counted(step), monitor=after, recent=recent), compared


def _finished(spec: DriftSpec, memory: Memory, learned: Learned) -> Memory:
    reference = coarse_reference(learned.counts, learned.labels, frozenset(spec.features))
    return replace(
        memory, reference=reference, learned=Learned(texts=learned.texts), monitor=monitor.begin(reference), texts=0
    )


def _binned(reference: Mapping[str, Coarse], step: DriftStep) -> dict[str, tuple[int, ...]]:
    found = {name: coarse.binned(step.counts.get(name, {})) for name, coarse in reference.items() if name != LABEL}
    return {**found, LABEL: reference[LABEL].binned(step.labels)} if LABEL in reference else found


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
