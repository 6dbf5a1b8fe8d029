"""``spec.drift`` and ``status.drift``: whether the texts still look like the reference."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema, field_validator

from tapchanger_operator.api.base import Duration, FreeForm, Model, StatusModel, rules
from tapchanger_serving.contract.drift import FEATURES, Feature
from tapchanger_serving.contract.gates import TextSource

FIRST_REQUESTS = 5000
"""Texts of traffic that become the reference where nothing else is there."""
FEWEST = 100
MOST = 1_000_000


class FirstRequests(Model):
    """The first texts that a revision is asked are the reference for the later ones."""

    first_requests: int = Field(default=FIRST_REQUESTS, ge=FEWEST, le=MOST)


DriftReference = Annotated[
    Literal["evaluation"] | FirstRequests | TextSource,
    WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True}),
]
"""`evaluation`, `{firstRequests: 5000}` or `{uri: …, text: …}`. A schema of Kubernetes can't say "a word or an object", so that
the operator looks at it (reason `InvalidSpec`).
"""


Like = Literal["hours", "hoursOfWeek"]


class DriftCompare(Model):
    """What traffic is compared with where days or weeks have a rhythm."""

    like: Literal["reference", Like] = Field(
        default="reference",
        description="reference: always the reference. hours: the same hour (UTC) of earlier days, once three of them were "
        "seen; hoursOfWeek: the same hour of earlier weeks, once two of them were seen. Until then, and where an hour has too "
        "few texts, the reference.",
    )


class DriftSpec(Model):
    """When traffic counts as changed, and what happens then."""

    enabled: bool = Field(default=True, description="Whether drift is watched.")
    reference: DriftReference | None = Field(
        default=None,
        description="What traffic is compared with: `evaluation` (the texts of gates.evaluation.dataset), "
        "`{uri: …, text: COLUMN}` (other texts, which the build describes) or `{firstRequests: 5000}` (the first texts that a "
        "revision is asked). By default the evaluation data where there is some, else the first 5000 texts.",
    )
    features: list[Feature] = Field(
        default=list(FEATURES),
        min_length=1,
        max_length=len(FEATURES),
        description="What is compared.",
        json_schema_extra=rules(
            ("self.all(f, self.exists_one(g, f == g))", "a feature is named twice; write each of them once")
        ),
    )
    compare: DriftCompare = Field(
        default=DriftCompare(),
        description="Whether like hours are compared with each other, for texts that have seasons.",
    )
    false_alarm_every: Duration = Field(
        default="30d",
        description="Mean time between two alarms while texts are like the reference. A longer one means later alarms.",
        json_schema_extra=rules(("!self.matches('^[0-9.]+(ms|s)$')", "write minutes, hours or days, for example 30d")),
    )
    action: Literal["Alert", "Hold", "Rollback", "Retrain"] = Field(
        default="Alert",
        description="What drift causes. Alert: a condition, an Event and metrics. Hold: rollouts wait as well. Rollback: where "
        "answers changed while the texts did not, the previous revision takes over, as long as it is warm. Retrain: a run of "
        "`retraining` is started.",
    )

    @field_validator("reference", mode="before")
    @classmethod
    def _reference_is_a_word_or_an_object(cls, value: Any) -> Any:
        """One sentence, where a union would tell what each of its members misses."""
        if isinstance(value, dict) and set(value) == {"firstRequests"}:
            number = value["firstRequests"]
            if isinstance(number, int) and FEWEST <= number <= MOST:
                return FirstRequests(first_requests=number)
            raise ValueError(f"firstRequests: write a number from {FEWEST} to {MOST}")
        if isinstance(value, dict) and isinstance(value.get("uri"), str) and set(value) <= {"uri", "text", "textPair"}:
            return TextSource.model_validate(value)
        if value is None or value == "evaluation" or isinstance(value, FirstRequests | TextSource):
            return value
        raise ValueError("write evaluation, {uri: …, text: COLUMN} or {firstRequests: 5000}")


DriftVerdict = Literal["none", "tokens", "vocabulary", "confidence", "labels", "embedding", "learning", "unknown"]


class DriftFigure(StatusModel):
    """How far one signal is from the reference, over the texts of late. Smoothed; for people, the verdict is not made of them."""

    feature: str
    signal: str
    psi: float
    ks: float | None = Field(default=None, description="Only of signals whose values have an order.")
    chi_square: float
    p_value: float


class DriftBucket(StatusModel):
    """Texts of one kind: their share in the reference and of late."""

    name: str
    reference: float
    now: float


class DriftAccuracy(StatusModel):
    """How often the model is right at present, estimated from its confidence, with a 95 % interval."""

    estimate: float
    low: float
    high: float
    reliable: bool
    message: str = ""


class DriftStatus(StatusModel):
    """Whether the texts of the stable revision still look like the reference.

    `verdict` is the feature that moved, or none of them. `evidence` is the monitor's statistic; it alarms at `threshold`.
    `since` is when the change began, as far as can be told. `state` is the monitor's memory.
    """

    verdict: DriftVerdict
    message: str
    revision: str
    reference: str = Field(default="", description="What traffic is compared with, in words.")
    feature: str | None = None
    signal: str | None = None
    since: str | None = None
    evidence: float = 0.0
    threshold: float = 0.0
    texts: int = Field(default=0, description="Texts that were compared, of a sample of the requests.")
    repeats: int = Field(default=0, description="Texts left out since they had been asked within the minute before.")
    mmd: float | None = Field(default=None, description="Maximum mean discrepancy of the sketch.")
    figures: list[DriftFigure] = Field(default=[], description="The signals that differ most.")
    buckets: list[DriftBucket] = Field(default=[], description="Where the signal that moved differs most.")
    accuracy: DriftAccuracy | None = None
    at: str
    state: FreeForm = {}
