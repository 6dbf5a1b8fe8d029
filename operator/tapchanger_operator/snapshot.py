"""The frozen values that one pass looks at: read by ``observe``, understood by every room after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tapchanger_operator.api.controls import Order, RetrainingOrder
from tapchanger_operator.api.enginebuild import EngineBuildSpec, EngineBuildStatus
from tapchanger_operator.api.spec import TransformerDeploymentSpec
from tapchanger_operator.api.status import TransformerDeploymentStatus
from tapchanger_operator.names import Owner, Ref
from tapchanger_operator.resolve.identity import RevisionContent
from tapchanger_serving.contract.capture import Told
from tapchanger_serving.contract.drift import DriftWindow
from tapchanger_serving.contract.messages import StepFailure
from tapchanger_serving.contract.windows import Windows


@dataclass(frozen=True)
class Trouble:
    """Why a pod does not start."""

    reason: str
    message: str


@dataclass(frozen=True)
class Damage:
    """A server's word that the artifact in the store is missing or not what its digest says; `at` in Unix seconds."""

    at: float
    message: str


@dataclass(frozen=True)
class JobState:
    """Where a Job stands. `step` names the container that runs; `answer` is the last container's termination message."""

    phase: Literal["Pending", "Running", "Succeeded", "Failed"]
    step: str | None = None
    answer: str | None = None
    failure: StepFailure | None = None
    trouble: Trouble | None = None


@dataclass(frozen=True)
class Silence:
    """The observer gave no usable answer; `why` says so in words."""

    why: str


@dataclass(frozen=True)
class Node:
    """A node as far as it matters who may run there."""

    name: str
    uid: str
    labels: Mapping[str, str]
    taints: tuple[Mapping[str, str], ...] = ()
    cordoned: bool = False


@dataclass(frozen=True)
class Servers:
    """What was seen of a revision's servers. `trouble` says in words why they don't start, after its `reason`."""

    replicas: int = 0
    ready: int = 0
    available: bool = False
    trouble: str | None = None
    reason: str | None = None
    damage: Damage | None = None


@dataclass(frozen=True)
class BuildSeen:
    """An EngineBuild as it is; `owners` are the uids of those that need it."""

    name: str
    uid: str
    owners: tuple[str, ...]
    spec: EngineBuildSpec
    status: EngineBuildStatus


@dataclass(frozen=True)
class RoutesSeen:
    """The deployment's routes at gateways.

    `told`: every gateway serves the routes as they are now. `trouble` says why one doesn't; `refused`, that it was told by a
    gateway or the cluster and won't pass by itself. `missing` are kinds that the cluster does not have.
    """

    told: bool = False
    trouble: Trouble | None = None
    refused: bool = False
    missing: frozenset[str] = frozenset()


@dataclass(frozen=True)
class RouterSeen:
    """The router's pods: name → hash of the configuration that each was told of."""

    ready: int = 0
    told: Mapping[str, str | None] = field(default_factory=dict)
    routes: RoutesSeen = RoutesSeen()


@dataclass(frozen=True)
class Given:
    """An annotation by which a person steers a rollout: its value, and who set it as far as that is known."""

    value: str
    by: str = ""


@dataclass(frozen=True)
class Steering:
    """What people ask of a rollout (see :mod:`~tapchanger_operator.api.controls`)."""

    pause: Given | None = None
    orders: Mapping[Order, Given] = field(default_factory=dict)
    retraining: Mapping[RetrainingOrder, Given] = field(default_factory=dict)


@dataclass(frozen=True)
class VariantSeen:
    """What was seen of a variant's model before it is known, and of the Job that asks for new content."""

    inspection: JobState | None = None
    missing_claims: Sequence[str] = ()
    poll: JobState | None = None


@dataclass(frozen=True)
class Snapshot:
    """One deployment and its world at `now` (Unix seconds)."""

    now: float
    owner: Owner
    generation: int
    spec: TransformerDeploymentSpec
    status: TransformerDeploymentStatus
    live: Mapping[Ref, Mapping[str, Any]]
    contents: Mapping[str, RevisionContent]
    builds: Mapping[str, BuildSeen]
    servers: Mapping[str, Servers]
    router: RouterSeen
    inspection: JobState | None
    missing_claims: Sequence[str]
    canary_windows: Windows | Silence | None
    step_windows: Windows | Silence | None
    watch_windows: Windows | Silence | None
    slo_windows: Windows | Silence | None
    blame_windows: Windows | Silence | None = None
    mirror_windows: Windows | Silence | None = None
    steering: Steering = field(default_factory=Steering)
    variants: Mapping[str, VariantSeen] = field(default_factory=dict)
    poll: JobState | None = None
    nodes: Sequence[Node] | None = None
    """None where they could not be read."""
    probe: JobState | None = None
    experiment_windows: Windows | Silence | None = None
    drift_window: DriftWindow | Silence | None = None
    retraining: JobState | None = None
    """The Job of the run that is under way."""
    quality_windows: Windows | Silence | None = None
    drift_hours: str | None = None
    """What is to be kept of like hours, where drift compares them."""
    captured: Sequence[Told] | None = None
    """What the capturing sidecars said; None where they weren't asked."""
