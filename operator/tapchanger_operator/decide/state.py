"""Where a rollout stands, and what goes into and comes out of a step of it: frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tapchanger_operator.api.arms import ExperimentStatus
from tapchanger_operator.api.status import (
    ArmStatus,
    CanaryStatus,
    ControlStatus,
    HistoryEntry,
    PreviousStatus,
    Rejection,
    RetiringStatus,
    RevisionStatus,
    TransformerDeploymentStatus,
)

Result = Literal["Pass", "Fail", "Inconclusive", "Error"]


@dataclass(frozen=True)
class Target:
    """The revision that the spec asks for."""

    revision: str
    build: str
    uri: str


@dataclass(frozen=True)
class Judgement:
    """The verdict on the canary at its present step."""

    result: Result
    reason: str
    message: str
    first_bad: float | None = None


@dataclass(frozen=True)
class Change:
    """Something that happened and is worth an Event and a log line.

    `revision` is set where it is about who serves, which `status.history` keeps; `by` is who ordered it.
    """

    kind: Literal["Normal", "Warning"]
    reason: str
    message: str
    revision: RevisionStatus | None = None
    by: str = ""


@dataclass(frozen=True)
class State:
    """Who serves. It is read from status and written back to it."""

    stable: RevisionStatus | None = None
    canary: CanaryStatus | None = None
    previous: PreviousStatus | None = None
    retiring: tuple[RetiringStatus, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    controls: tuple[ControlStatus, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    arms: tuple[ArmStatus, ...] = ()
    experiment: ExperimentStatus | None = None

    @staticmethod
    def of(status: TransformerDeploymentStatus) -> State:
        """The state that a status holds."""
        return State(
            stable=status.stable,
            canary=status.canary,
            previous=status.previous,
            retiring=tuple(status.retiring),
            rejected=tuple(status.rejected),
            controls=tuple(status.controls),
            history=tuple(status.history),
            arms=tuple(status.arms),
            experiment=status.experiment,
        )

    def weights(self) -> dict[str, int]:
        """Shares of traffic by revision, all that a router must know; empty until the first revision is available."""
        if self.stable is None or self.stable.since is None:
            return {}
        shares = {other.revision: 0 for other in self.retiring}
        if self.previous:
            shares[self.previous.revision] = 0
        if self.canary:
            shares[self.canary.revision] = self.canary.weight
        shares[self.stable.revision] = 100 - (self.canary.weight if self.canary else 0)
        return shares

    def revisions(self) -> tuple[str, ...]:
        """Every revision whose servers must exist."""
        known = [self.stable, self.canary, self.previous, *self.retiring]
        of_arms = [part.revision for arm in self.arms for part in (arm, arm.next) if part and part.revision]
        return tuple(dict.fromkeys([*(revision.revision for revision in known if revision), *of_arms]))

    def is_rejected(self, revision: str) -> bool:
        """Whether `revision` was tried and rolled back."""
        return any(rejection.revision == revision for rejection in self.rejected)


@dataclass(frozen=True)
class Outcome:
    """The next state and what changed."""

    state: State
    changes: tuple[Change, ...] = ()
