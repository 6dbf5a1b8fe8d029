"""What one revision's texts were like, counted in steps of ten seconds, and the reference that its servers announced.

Not part of the snapshot: the operator asks every half minute and keeps what it needs, and servers announce their reference
once a minute.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from pydantic import ValidationError

from tapchanger_serving.contract import drift, names
from tapchanger_serving.contract.drift import DriftStep, DriftWindow, Reference

_OFFSETS: Final = tuple(accumulate((signal.bins for signal in drift.SIGNALS), initial=0))
_MOST: Final = 2**16 - 1
LONGEST_REFERENCE: Final = 32_768
"""Characters of an announced reference."""


@dataclass(slots=True)
class Step:
    """Ten seconds. `bins` has all bins of all signals in a row; a bin counts no further than 65,535."""

    texts: int = 0
    repeats: int = 0
    bins: array[int] = field(default_factory=lambda: array("H", bytes(2 * _OFFSETS[-1])))
    labels: Counter[str] = field(default_factory=Counter)

    def add(self, found: Sequence[int | None], label: str | None) -> None:
        """Count a text."""
        self.texts += 1
        for offset, number in zip(_OFFSETS, found, strict=False):
            if number is not None and self.bins[offset + number] < _MOST:
                self.bins[offset + number] += 1
        if label is not None:
            known = label in self.labels or len(self.labels) < drift.MOST_LABELS
            self.labels[label if known else drift.OTHER_LABEL] += 1

    def told(self, start: int) -> DriftStep:
        """In the contract's words."""
        counts: dict[str, dict[int, int]] = {}
        for signal, offset in zip(drift.SIGNALS, _OFFSETS, strict=False):
            part = self.bins[offset : offset + signal.bins]
            found = {number: count for number, count in enumerate(part) if count}
            if found:
                counts[signal.name] = found
        return DriftStep(start=start, texts=self.texts, repeats=self.repeats, counts=counts, labels=dict(self.labels))


@dataclass(slots=True)
class Drift:
    """Steps of one revision by their start (Unix seconds, a multiple of the step)."""

    steps: dict[int, Step] = field(default_factory=dict)
    reference: Reference | None = None

    def take(self, attributes: dict[str, str], at: float) -> None:
        """Count what a span says of a text that was answered at `at`; most spans say nothing.

        Raises ValueError with a plain message for a value that is none.
        """
        announced = attributes.get(names.ATTR_DRIFT_REFERENCE)
        if announced is not None:
            self.reference = _reference(announced)
        told = attributes.get(names.ATTR_DRIFT)
        if told is None:
            return
        try:
            found = drift.decode(told)
        except ValueError as problem:
            raise ValueError(f"{names.ATTR_DRIFT}: {problem}") from None
        start = int(at) - int(at) % drift.STEP
        step = self.steps.setdefault(start, Step())
        if found is None:
            step.repeats += told == f"{drift.VERSION};{drift.REPEAT}"
        else:
            step.add(found, attributes.get(names.ATTR_LABEL))

    def window(self, since: float, now: float) -> tuple[tuple[DriftStep, ...], int]:
        """The settled steps that began at `since` or later, and the time at which the next question goes on."""
        until = int(now - drift.SETTLED) // drift.STEP * drift.STEP
        found = sorted(start for start in self.steps if since <= start and start + drift.STEP <= until)
        return tuple(self.steps[start].told(start) for start in found), until

    def drop(self, now: float) -> None:
        """Forget the steps that ended long ago."""
        for start in [start for start in self.steps if start + drift.STEP <= now - drift.KEPT]:
            del self.steps[start]


def answer(found: Drift | None, about: tuple[str, str, str], since: float, now: float) -> DriftWindow:
    """What is known of a revision (namespace, deployment, revision) since `since` (Unix seconds); of an unknown one nothing."""
    steps, until = (found or Drift()).window(since, now)
    namespace, deployment, revision = about
    return DriftWindow(
        namespace=namespace,
        deployment=deployment,
        revision=revision,
        now=now,
        until=until,
        reference=found.reference if found else None,
        steps=steps,
    )


def merge(answers: Sequence[DriftWindow]) -> DriftWindow:
    """Several observers' answers to one question, in one. Steps that have not settled at all of them wait for the next
    question. The reference is that of the first that has one; all servers of a revision announce the same.
    """
    until = min(one.until for one in answers)
    steps: dict[int, list[DriftStep]] = {}
    for step in (step for one in answers for step in one.steps if step.start + drift.STEP <= until):
        steps.setdefault(step.start, []).append(step)
    return answers[0].model_copy(
        update={
            "until": until,
            "now": min(one.now for one in answers),
            "reference": next((one.reference for one in answers if one.reference is not None), None),
            "steps": tuple(_sum(start, steps[start]) for start in sorted(steps)),
        }
    )


def _sum(start: int, parts: Sequence[DriftStep]) -> DriftStep:
    labels: Counter[str] = Counter()
    counts: dict[str, Counter[int]] = {}
    for part in parts:
        labels.update(part.labels)
        for signal, found in part.counts.items():
            counts.setdefault(signal, Counter()).update(found)
    return DriftStep(
        start=start,
        texts=sum(part.texts for part in parts),
        repeats=sum(part.repeats for part in parts),
        counts={signal: dict(found) for signal, found in counts.items()},
        labels=dict(labels),
    )


def _reference(text: str) -> Reference:
    if len(text) > LONGEST_REFERENCE:
        raise ValueError(
            f"{names.ATTR_DRIFT_REFERENCE}: found {len(text)} characters, expected at most {LONGEST_REFERENCE}"
        )
    try:
        return Reference.model_validate_json(text)
    except ValidationError as problem:
        raise ValueError(f"{names.ATTR_DRIFT_REFERENCE}: {problem.error_count()} errors in the reference") from None
