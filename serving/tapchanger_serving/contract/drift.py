"""What servers tell of texts so that a change of traffic can be seen, in numbers that give no text away.

Of each traced request a server describes one text by the number of the bin that it falls into, for each of :data:`SIGNALS`.
The bins are the same everywhere, so that counts of any servers and times add up; who compares them joins fine bins to coarse
ones.

The attribute `tapchanger.drift` is `1;` and the bins in the order of :data:`SIGNALS`, separated by commas, empty where a
signal is not known; or `1;repeat` for a text that this server was asked lately. `tapchanger.drift.reference` is JSON of
:class:`Reference`.

`GET /v1/drift` on the observer's API (query: `namespace`, `deployment`, `revision`, all required, and `since`, Unix seconds)
answers with :class:`DriftWindow`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tapchanger_serving.contract.base import Message

Feature = Literal["tokens", "vocabulary", "confidence", "labels", "embedding"]
FEATURES: Final[tuple[Feature, ...]] = ("tokens", "vocabulary", "confidence", "labels", "embedding")

VERSION: Final = "1"
REPEAT: Final = "repeat"
STEP: Final = 10
"""Seconds over which the observer counts."""
SETTLED: Final = 10
"""Seconds after its end from which on a step is told: late spans have come by then."""
KEPT: Final = 900
"""Seconds for which the observer keeps steps."""
SKETCH: Final = 16
"""Dimensions of the sketch."""
MOST_LABELS: Final = 64
OTHER_LABEL: Final = "(other)"
"""Stands for the labels beyond the first :data:`MOST_LABELS` that were seen."""
LABEL: Final = "label"
"""The signal of labels, whose bins are the labels' names."""
REFERENCE_FILE: Final = "drift.json"
"""The artifact's file with what the build saw of the reference texts."""

SCRIPTS: Final = (
    "ASCII", "Latin", "Cyrillic", "Greek", "Hebrew", "Arabic", "Indic", "Thai", "Han", "Kana", "Hangul", "symbols", "other",
    "no letters", "empty",
)  # fmt: skip
SHARES: Final = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.3, 0.5)
"""Upper edges of the bins of shares; the last bin is open."""
_PIECES: Final = 0.05
_SURPRISE: Final = 0.2
_LOGIT: Final = 0.5
_LOWEST_LOGIT: Final = -4.0
_COORDINATE: Final = 0.375
_HALF: Final = 3.0


@dataclass(frozen=True)
class Signal:
    """One number told of a text: `bins` of them, in an order that means something where `ordered`."""

    name: str
    feature: Feature
    bins: int
    title: str
    ordered: bool = True


SIGNALS: Final[tuple[Signal, ...]] = (
    Signal("tokens", "tokens", 32, "tokens of a text"),
    Signal("unknown", "vocabulary", len(SHARES) + 1, "share of tokens that the tokenizer doesn't know"),
    Signal("rare", "vocabulary", len(SHARES) + 1, "share of tokens that the reference hardly has"),
    Signal("surprise", "vocabulary", 64, "bits by which the reference is surprised at a token"),
    Signal("pieces", "vocabulary", 40, "tokens per word"),
    Signal("script", "vocabulary", len(SCRIPTS), "script", ordered=False),
    Signal("confidence", "confidence", 24, "confidence"),
    Signal("entropy", "confidence", 20, "entropy of the scores, as a share of its maximum"),
    *(Signal(f"e{number}", "embedding", 16, f"coordinate {number} of the sketch") for number in range(SKETCH)),
)
BY_NAME: Final = {signal.name: signal for signal in (*SIGNALS, Signal(LABEL, "labels", 0, "label", ordered=False))}


class Reference(Message):
    """What the texts of a reference looked like: by signal the number of texts in each bin, and by label.

    `digest` names the content. Where the texts have labels, `accuracy` is the share that the model answered rightly,
    `confidence` the mean confidence on the same texts and `gap` the standard deviation of (right or not) minus confidence;
    `labelled` is their number.
    """

    digest: str
    texts: int
    counts: dict[str, dict[int, int]]
    labels: dict[str, int] = {}
    labelled: int = 0
    accuracy: float | None = None
    confidence: float | None = None
    gap: float | None = None


class DriftStep(Message):
    """Texts that a revision answered in the ten seconds from `start` (Unix seconds); `repeats` more had just been asked."""

    start: int
    texts: int
    repeats: int = 0
    counts: dict[str, dict[int, int]] = {}
    labels: dict[str, int] = {}


class DriftWindow(Message):
    """Steps of one revision in order of time, the first at or after the time asked for; the next question goes on at `until`.

    `reference` is what its servers announced last.
    """

    namespace: str
    deployment: str
    revision: str
    now: float
    until: int
    reference: Reference | None = None
    steps: tuple[DriftStep, ...] = ()


def token_bin(tokens: int) -> int:
    """Half octaves: 1, 2, 3, 4, 6, 8, 11, 16 … tokens begin a bin; bin 0 is for none."""
    return min(31, int(2 * math.log2(tokens)) + 1) if tokens > 0 else 0


def share_bin(share: float) -> int:
    """The bin of a share: how many of :data:`SHARES` it exceeds."""
    return sum(share > edge for edge in SHARES)


def surprise_bin(bits: float) -> int:
    """Steps of 0.2 bits."""
    return _within(bits / _SURPRISE, 64)


def pieces_bin(pieces: float) -> int:
    """Steps of 0.05 tokens per word, from 1."""
    return _within((pieces - 1.0) / _PIECES, 40)


def confidence_bin(score: float) -> int:
    """Steps of 0.5 on the scale of log odds, from -4 to 8."""
    score = min(max(score, 1e-9), 1.0 - 1e-9)
    return _within((math.log(score / (1.0 - score)) - _LOWEST_LOGIT) / _LOGIT, 24)


def confidence_of(number: float) -> float:
    """The confidence in the middle of a bin; half a bin less is where it begins."""
    return 1.0 / (1.0 + math.exp(-(_LOWEST_LOGIT + (number + 0.5) * _LOGIT)))


def entropy_bin(share: float) -> int:
    """Steps of 0.05 of the largest entropy that so many labels can have."""
    return _within(share * 20, 20)


def coordinate_bin(value: float) -> int:
    """Steps of 0.375 from -3 to 3, of a coordinate whose mean square is 1."""
    return _within((value + _HALF) / _COORDINATE, 16)


def _within(value: float, bins: int) -> int:
    return min(max(int(value), 0), bins - 1)


def in_words(signal: str, low: int, high: int) -> str:
    """The texts in bins `low` to `high` of a signal, for people: `65 to 181 tokens`."""
    found = BY_NAME[signal]
    if signal == "script":
        return " or ".join(SCRIPTS[number] for number in range(low, high + 1))
    begin, end = _edge(signal, low), _edge(signal, high + 1)
    if low == 0:
        return f"at most {end}" if signal in ("unknown", "rare") else f"below {end}"
    return f"{begin} and more" if high >= found.bins - 1 else f"{begin} to {end}"


def _edge(signal: str, number: int) -> str:
    """Where bin `number` begins."""
    match signal:
        case "tokens":
            return str(math.ceil(2 ** ((number - 1) / 2))) if number > 0 else "0"
        case "unknown" | "rare":
            return f"{100 * SHARES[min(max(number, 1), len(SHARES)) - 1]:g} %"
        case "surprise":
            return f"{number * _SURPRISE:.1f}"
        case "pieces":
            return f"{1 + number * _PIECES:.2f}"
        case "confidence":
            return f"{confidence_of(number - 0.5):.3f}"
        case "entropy":
            return f"{number * 5} %"
        case _:
            return f"{number * _COORDINATE - _HALF:.2f}"


def encode(bins: Sequence[int | None]) -> str:
    """The attribute's value of one text's bins, in the order of :data:`SIGNALS`."""
    return f"{VERSION};{','.join('' if one is None else str(one) for one in bins)}"


def decode(text: str) -> tuple[int | None, ...] | None:
    """The bins of one text in the order of :data:`SIGNALS`; None for a repeated one, or a version that is not known here.

    Raises ValueError with what was expected.
    """
    version, _, told = text.partition(";")
    if version != VERSION or told == REPEAT:
        return None
    parts = told.split(",")
    if len(parts) != len(SIGNALS):
        raise ValueError(f"found {len(parts)} bins, expected {len(SIGNALS)}")
    return tuple(_bin(part, signal) for part, signal in zip(parts, SIGNALS, strict=True))


def _bin(part: str, signal: Signal) -> int | None:
    if not part:
        return None
    if not (part.isascii() and part.isdigit() and len(part) <= 3 and int(part) < signal.bins):
        raise ValueError(f"{signal.name}: found {part[:16]!r}, expected a bin from 0 to {signal.bins - 1}")
    return int(part)
