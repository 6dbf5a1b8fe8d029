"""``spec.rollout``: how a new revision takes over."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from tapchanger_operator.api.base import Duration, Model, rules


class Step(Model):
    """One step of a canary: the share of requests that it gets, and for how long at least."""

    weight: int = Field(ge=1, le=99)
    hold: Duration = Field(default="0s", description="Shortest time at this weight, however good the verdict.")


class Analysis(Model):
    """When a step is passed, and what happens when it can't be decided."""

    false_alarm: float = Field(
        default=0.01, gt=0, le=0.2, description="Largest chance that a healthy canary is ever rolled back."
    )
    min_requests: int = Field(
        default=100,
        ge=1,
        le=10_000_000,
        description="Requests that a canary must answer in each step, and at a pace that brings so many within timeout.",
    )
    timeout: Duration = Field(
        default="15m",
        description="How long a step may stay undecided. One whose requests can't rule out twice an objective's budget takes a "
        "third of it at least.",
    )
    on_inconclusive: Literal["Pause", "Promote", "Rollback"] = "Pause"


class MirrorGate(Model):
    """What copied requests must show before a canary's first step. `rollout.analysis.onInconclusive` holds here too."""

    min_agreement: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Share of a request's texts that must be answered as the stable revision does, on average. Without it the "
        "agreement is told and decides nothing.",
    )
    min_requests: int = Field(default=100, ge=1, le=10_000_000, description="Copied requests to be compared.")
    timeout: Duration = Field(default="15m", description="How long this may take.")


DEFAULT_STEPS = (Step(weight=5), Step(weight=25), Step(weight=50))


class RolloutSpec(Model):
    """How a new revision takes over."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.mirrorGate) || !has(self.mirrorGate.minAgreement) || (has(self.mirror) && self.mirror > 0)",
                "mirrorGate.minAgreement needs copied requests: set mirror to the percent of requests to copy, for example 20",
            )
        )
    )

    steps: list[Step] = Field(
        default=list(DEFAULT_STEPS),
        max_length=20,
        json_schema_extra=rules(
            ("self.map(s, s.weight).isSorted()", "weights must rise from step to step, for example 5, 25, 50"),
            (
                "self.all(s, self.exists_one(t, t.weight == s.weight))",
                "two steps have the same weight; each step must be larger than the one before",
            ),
        ),
    )
    analysis: Analysis = Analysis()
    mirror: int = Field(
        default=0,
        ge=0,
        le=100,
        description="Percent of the requests that are copied to a canary before its first step. Its answers are compared with "
        "those that users get, and go nowhere.",
    )
    mirror_gate: MirrorGate = MirrorGate()
    watch: Duration = Field(default="30m", description="How long the previous revision stays warm after a promotion.")
