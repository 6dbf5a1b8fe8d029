"""tapchanger's monitor over a stream: the operator's own code, step by step."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from tapchanger_operator.decide.drift import monitor
from tapchanger_operator.decide.drift.coarse import Coarse, coarse_reference
from tapchanger_serving.contract.drift import FEATURES, LABEL, SIGNALS
from tests.bench.drift.described import MISSING, Corpus, Described

STEP_REQUESTS = 20
"""Requests of a step of ten seconds: two a second."""
EVERY = 100_000
"""Requests between two false alarms that are allowed on average."""


@dataclass(frozen=True)
class Watch:
    """The monitor of one reference."""

    reference: dict[str, Coarse]
    names: tuple[str, ...]

    @classmethod
    def of(cls, described: Described) -> Watch:
        """As the operator makes it of what a server announces."""
        known = described.reference
        return cls(coarse_reference(known.counts, known.labels, frozenset(FEATURES)), described.names)

    def begin(self) -> monitor.Monitor:
        """A monitor that has seen nothing."""
        return monitor.begin(self.reference)

    def take(self, before: monitor.Monitor, texts: Corpus, at: int) -> monitor.Monitor:
        """The monitor after one step."""
        step = {}
        for position, signal in enumerate(SIGNALS):
            if signal.name in self.reference:
                counts = Counter(int(one) for one in texts.bins[:, position] if one != MISSING)
                step[signal.name] = self.reference[signal.name].binned(counts)
        if LABEL in self.reference:
            labels = Counter(self.names[int(one)] for one in texts.labels)
            step[LABEL] = self.reference[LABEL].binned(labels)
        return monitor.take(before, self.reference, step, at, math.log(EVERY / STEP_REQUESTS))


def alarms(watch: Watch, texts: Corpus) -> list[int]:
    """After how many requests it alarmed; it starts anew after each alarm."""
    state, found = watch.begin(), []
    for end in range(STEP_REQUESTS, len(texts.labels) + 1, STEP_REQUESTS):
        state = watch.take(state, _part(texts, end), end // 2)
        if state.alarmed:
            found.append(end)
            state = watch.begin()
    return found


def warmed(watch: Watch, texts: Corpus) -> monitor.Monitor:
    """The monitor after texts like the reference; one that alarmed by mistake starts anew."""
    state = watch.begin()
    for end in range(STEP_REQUESTS, len(texts.labels) + 1, STEP_REQUESTS):
        state = watch.take(state, _part(texts, end), end // 2)
        state = watch.begin() if state.alarmed else state
    return state


def first_alarm(watch: Watch, state: monitor.Monitor, texts: Corpus) -> tuple[int | None, str]:
    """Requests until the first alarm after `state`, and the feature it names; None where there was none."""
    for end in range(STEP_REQUESTS, len(texts.labels) + 1, STEP_REQUESTS):
        state = watch.take(state, _part(texts, end), end // 2)
        if state.alarmed:
            found = monitor.culprit(state, watch.reference)
            return end, found.signal if found else ""
    return None, ""


def _part(texts: Corpus, end: int) -> Corpus:
    part = np.arange(end - STEP_REQUESTS, end)
    return Corpus(texts.bins[part], texts.labels[part])
