"""What the gates of a build found, beyond the figure of each: intervals, calibration, robustness, data quality."""

from __future__ import annotations

from typing import Literal

from tapchanger_serving.contract.base import Message
from tapchanger_serving.contract.gates import PerturbationKind

PersonalKind = Literal["email", "phone", "card", "iban", "ip"]


class Interval(Message):
    """A 95 % confidence interval: Wilson's score interval of a share, or percentiles of a seeded bootstrap over rows."""

    low: float
    high: float
    method: Literal["wilson", "bootstrap"]


class ReliabilityBin(Message):
    """The answers whose confidence is in one fifteenth of [0, 1]; empty bins are left out."""

    count: int
    confidence: float
    accuracy: float


class Reliability(Message):
    """How well confidence tells the share of right answers: errors, and the bins of the reliability diagram."""

    ece: float
    brier: float
    bins: tuple[ReliabilityBin, ...] = ()


class Calibration(Message):
    """The engine's calibration on `rows` rows; with `temperature`, these are the half on which it was not fitted."""

    rows: int
    before: Reliability
    temperature: float | None = None
    after: Reliability | None = None


class Flips(Message):
    """Shares of the answers that changed when their texts were perturbed; `examples` are data rows, from 1."""

    kind: PerturbationKind
    texts: int
    engine: float
    reference: float
    examples: tuple[int, ...] = ()


class Suspicion(Message):
    """A share of the rows, and which: numbers of data rows, from 1, the first few."""

    share: float
    count: int
    examples: tuple[int, ...] = ()


class PersonalData(Message):
    """How many rows have one kind of personal data, and which; never the text."""

    kind: PersonalKind
    count: int
    examples: tuple[int, ...] = ()


class ClassShare(Message):
    """How many rows have a label."""

    label: str
    count: int
    share: float


class DataQuality(Message):
    """What the evaluation data is like. A figure that could not be found out is None."""

    rows: int
    duplicates: Suspicion
    near_duplicates: Suspicion
    leakage: Suspicion | None = None
    label_noise: Suspicion | None = None
    personal_data: tuple[PersonalData, ...] = ()
    personal_rows: Suspicion
    classes: tuple[ClassShare, ...] = ()
