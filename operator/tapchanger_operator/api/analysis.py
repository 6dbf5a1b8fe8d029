"""What was found out about a canary: by its own requests in ``status.analysis``, by copied ones in ``status.canary.mirror``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tapchanger_operator.api.base import FreeForm, StatusModel


class SliceStatus(StatusModel):
    """Texts of one kind: how many were compared, and which share of them was answered alike."""

    name: str
    texts: int
    agreement: float


class FlipStatus(StatusModel):
    """Texts that the stable revision gave one label and the canary another."""

    stable: str
    canary: str
    texts: int


class MirrorStatus(StatusModel):
    """Requests that were copied to a canary before its first step, and how its answers compare with the stable revision's.

    `until` is unset while requests are copied. `requests` were answered by both; `agreement` is the mean share of their texts
    that were answered alike, with an interval that holds at all times. `slices` are those that agree least.
    """

    percent: int
    since: str
    until: str | None = None
    requests: int = 0
    failed: int = Field(default=0, description="Requests that only the stable revision answered.")
    agreement: float | None = None
    agreement_low: float | None = None
    agreement_high: float | None = None
    p99: str | None = Field(default=None, description="Of the canary, from the router to the answer made.")
    stable_p99: str | None = Field(default=None, description="Of the stable revision, for the same requests.")
    flips: list[FlipStatus] = []
    slices: list[SliceStatus] = []
    exemplars: list[str] = Field(default=[], description="Trace ids of requests that were answered differently.")


class ObjectiveEvidence(StatusModel):
    """One objective's figures for the canary."""

    objective: str
    requests: int
    bad: int
    stable_requests: int
    stable_bad: int
    e_value: float
    threshold: float


BlameStage = Literal["Queue", "Compute", "PreProcessing", "PostProcessing", "Network", "Errors", "Node", "Unknown"]


class BlameStatus(StatusModel):
    """What sets a failed revision apart from the stable one beside it."""

    stage: BlameStage
    objective: str
    message: str
    share: float = Field(default=0.0, description="How much of the difference to the stable revision it makes, 0 to 1.")
    exemplars: list[str] = Field(default=[], description="Trace ids of real requests that show it.")


class AnalysisStatus(StatusModel):
    """The last look at the canary, before its first step (`mirroring`) or in one, or at the stable revision after its
    promotion (`watching`). `state` is the running test's memory.
    """

    revision: str
    watching: bool = False
    mirroring: bool = False
    verdict: Literal["Pass", "Fail", "Inconclusive", "Error"]
    reason: str
    message: str
    requests: int = 0
    evidence: list[ObjectiveEvidence] = []
    exemplars: list[str] = Field(default=[], description="Trace ids of real slow or failed requests.")
    blame: BlameStatus | None = None
    at: str
    state: FreeForm = {}
