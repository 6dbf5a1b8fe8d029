"""The cases: what comes before and after the change, drawn from real texts with replacement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tests.bench.drift.described import Corpus, Described

Draw = Callable[[np.random.Generator, int], Corpus]


@dataclass(frozen=True)
class Case:
    """`reference` names what the detectors know; requests come from `before`, and from `after` once things change."""

    name: str
    reference: str
    before: str
    after: str
    share: float = 1.0
    """The part of the requests that comes from `after`."""
    ramp: int = 0
    """Requests over which that part grows from nothing."""


CASES = (
    Case("reviews → tweets", "reviews-reference", "reviews", "tweets"),
    Case("reviews → Amazon", "reviews-reference", "reviews", "amazon"),
    Case("reviews → NYT", "reviews-reference", "reviews", "nyt"),
    Case("typos in a fifth of the words", "reviews-reference", "reviews", "typos"),
    Case("20 % NYT", "reviews-reference", "reviews", "nyt", 0.2),
    Case("5 % NYT", "reviews-reference", "reviews", "nyt", 0.05),
    Case("1 % NYT", "reviews-reference", "reviews", "nyt", 0.01),
    Case("slow ramp to tweets", "reviews-reference", "reviews", "tweets", 1.0, 5000),
    Case("prompts: a third more injections", "prompts-reference", "prompts", "injections", 0.33),
    Case("prompts → film reviews", "prompts-reference", "prompts", "reviews", 0.5),
)

HELD_OUT = (
    Case("2 % tweets", "reviews-reference", "reviews", "tweets", 0.02),
    Case("30 % Amazon", "reviews-reference", "reviews", "amazon", 0.3),
    Case("10 % injections among reviews", "reviews-reference", "reviews", "injections", 0.1),
    Case("slow ramp to NYT", "reviews-reference", "reviews", "nyt", 1.0, 3000),
    Case("prompts: 3 % NYT", "prompts-reference", "prompts", "nyt", 0.03),
    Case("prompts: 10 % film reviews", "prompts-reference", "prompts", "reviews", 0.1),
    Case("prompts: half of them misspelt film reviews", "prompts-reference", "prompts", "typos", 0.5),
    Case("prompts: slow ramp to Amazon", "prompts-reference", "prompts", "amazon", 1.0, 4000),
)
"""Other mixes, rates and ramps of the same texts, at which nobody looked while the monitor was made."""


def unchanged(described: Described, name: str, requests: int, rng: np.random.Generator) -> Corpus:
    """Requests like the reference."""
    corpus = described.corpora[name]
    return _picked(corpus, rng.integers(len(corpus.labels), size=requests))


def changed(described: Described, case: Case, requests: int, rng: np.random.Generator) -> Corpus:
    """Requests from the moment of the change on."""
    before, after = described.corpora[case.before], described.corpora[case.after]
    share = np.full(requests, case.share)
    if case.ramp:
        share *= np.minimum(np.arange(requests) / case.ramp, 1.0)
    new = rng.random(requests) < share
    old = _picked(before, rng.integers(len(before.labels), size=requests))
    other = _picked(after, rng.integers(len(after.labels), size=requests))
    return Corpus(np.where(new[:, None], other.bins, old.bins), np.where(new, other.labels, old.labels))


def _picked(corpus: Corpus, picked: npt.NDArray[np.intp]) -> Corpus:
    return Corpus(corpus.bins[picked], corpus.labels[picked])
