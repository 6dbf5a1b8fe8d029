"""``status`` of a TransformerDeployment: what the operator decided and why. The next pass reads its decision from here."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tapchanger_operator.api.analysis import AnalysisStatus, MirrorStatus
from tapchanger_operator.api.arms import ArmFigure, ArmNext, DifferenceStatus, ExperimentStatus
from tapchanger_operator.api.base import StatusModel, unix
from tapchanger_operator.api.capture import CaptureStatus
from tapchanger_operator.api.drift import DriftStatus
from tapchanger_operator.api.hardware import HardwareStatus
from tapchanger_operator.api.polling import PollStatus
from tapchanger_operator.api.quality import QualityStatus
from tapchanger_operator.api.retraining import RetrainingStatus
from tapchanger_serving.contract.messages import Inspection


class Condition(StatusModel):
    """A standard Kubernetes condition."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str = ""


class ModelStatus(StatusModel):
    """The model that the spec names, as it was found. `key` is the hash of what was asked."""

    uri: str
    digest: str
    key: str
    inspection: Inspection
    poll: PollStatus | None = Field(default=None, description="Only with `model.pollInterval`.")


class TargetStatus(StatusModel):
    """The content that the spec asks for."""

    build: str
    revision: str | None = None


class RevisionStatus(StatusModel):
    """One revision and its part of the traffic. `since` is when it first was available (stable) or got traffic."""

    revision: str
    build: str
    uri: str
    weight: int = 0
    replicas: int = 0
    ready: int = 0
    since: str | None = None


class CanaryStatus(RevisionStatus):
    """A revision under test. `step` counts from 0; -1 while its servers start and while requests are copied to it (`mirror`).

    `paused`: undecided for too long. `held_at`: since when a person holds it. `suspicions`: how often it was promoted
    and then put back beside its predecessor; 0 for one that was never promoted.
    """

    step: int = -1
    created_at: str
    available_at: str | None = None
    step_started_at: str | None = None
    paused: bool = False
    held_at: str | None = None
    held_seconds: float = 0.0
    suspicions: int = 0
    mirror: MirrorStatus | None = None

    @property
    def mirroring(self) -> bool:
        """Whether requests are copied to it."""
        return self.mirror is not None and self.mirror.until is None

    def elapsed(self, now: float) -> float:
        """Seconds of the present step, or of the mirroring before, until `now` (Unix seconds), without those for which it was
        held.
        """
        began = self.mirror.since if self.mirror and self.mirroring else self.step_started_at
        if began is None:
            return 0.0
        held = self.held_seconds + (now - unix(self.held_at) if self.held_at else 0.0)
        return now - unix(began) - held


class PreviousStatus(RevisionStatus):
    """The revision before the last promotion, kept warm until `until`. `suspicions` as the promoted canary had."""

    until: str
    suspicions: int = 0


class RetiringStatus(RevisionStatus):
    """A revision that gets no traffic any more; its servers go when every router has been told, at `until`."""

    until: str


class ArmStatus(StatusModel):
    """One arm of an experiment. `weight` is its percent of the users, `since` when its revision got the first of them.

    `reason` and `message` say what stands in the way of the spec's content, `stalled` that only a change helps.
    """

    name: str
    uri: str = ""
    revision: str | None = None
    build: str | None = None
    weight: int = 0
    replicas: int = 0
    ready: int = 0
    since: str | None = None
    requests: int = 0
    best: float | None = Field(
        default=None, description="The chance that it is the best arm, by the experiment's metric."
    )
    difference: DifferenceStatus | None = None
    figures: list[ArmFigure] = []
    next: ArmNext | None = None
    model: ModelStatus | None = None
    reason: str = ""
    message: str = ""
    stalled: bool = False


class Rejection(StatusModel):
    """A revision that was rolled back; the same content is not tried again."""

    revision: str
    build: str
    uri: str
    at: str
    reason: str
    message: str
    first_bad_at: str | None = None


class ControlStatus(StatusModel):
    """What came of an order (see `controls`): `value` as it was given, by whom, and the answer in words."""

    order: Literal["promote", "skip", "resume", "abort", "retry"]
    value: str
    by: str = Field(default="", description="Who gave it, as far as that is known.")
    at: str
    done: bool = Field(description="Whether it was carried out; the message says why not.")
    message: str


class HistoryEntry(StatusModel):
    """Something that happened to who serves; the newest comes last."""

    at: str
    event: Literal["Started", "Promoted", "RolledBack", "Suspected", "Withdrawn", "Retried"]
    revision: str
    uri: str
    by: str = Field(default="", description="Who ordered it; empty where the operator did it by itself.")
    message: str


class Endpoints(StatusModel):
    """Where applications reach the model: inside the cluster, or by a gateway's host names or path."""

    grpc: str | None = None
    http: str
    model: str


class SloStatus(StatusModel):
    """What users of the stable revision saw over `slo.window`.

    Each interval holds the true percentile with 95 %; `over 38ms` where there are too few requests for an upper bound.
    """

    requests: int = 0
    p50: str | None = None
    p50_interval: str | None = None
    p90: str | None = None
    p90_interval: str | None = None
    p99: str | None = None
    p99_interval: str | None = None
    objectives: list[str] = []


class TransformerDeploymentStatus(StatusModel):
    """What is, and in words what is going on."""

    observed_generation: int = 0
    message: str = ""
    conditions: list[Condition] = Field(
        default=[], json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    )
    model: ModelStatus | None = None
    hardware: HardwareStatus | None = None
    target: TargetStatus | None = None
    stable: RevisionStatus | None = None
    canary: CanaryStatus | None = None
    previous: PreviousStatus | None = None
    retiring: list[RetiringStatus] = []
    analysis: AnalysisStatus | None = None
    rejected: list[Rejection] = []
    arms: list[ArmStatus] = []
    experiment: ExperimentStatus | None = None
    controls: list[ControlStatus] = []
    history: list[HistoryEntry] = Field(default=[], description="The last 20 changes of who serves.")
    endpoints: Endpoints | None = None
    slo: SloStatus | None = None
    drift: DriftStatus | None = None
    retraining: RetrainingStatus | None = None
    quality: QualityStatus | None = None
    capture: CaptureStatus | None = None

    def wire(self) -> dict[str, Any]:
        """As the status subresource has it; unset fields and empty lists are left out."""
        wire = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {key: value for key, value in wire.items() if value != []}
