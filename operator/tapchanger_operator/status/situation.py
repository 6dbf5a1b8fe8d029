"""All that status is made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from tapchanger_operator.api import reasons
from tapchanger_operator.api.analysis import AnalysisStatus
from tapchanger_operator.api.base import unix
from tapchanger_operator.api.drift import DriftStatus
from tapchanger_operator.api.retraining import RetrainingStatus
from tapchanger_operator.decide.drift.respond import HELD_BY
from tapchanger_operator.decide.state import State
from tapchanger_operator.errors import OperatorError, UserError
from tapchanger_operator.resolve.resolution import Resolution
from tapchanger_operator.snapshot import Servers, Snapshot
from tapchanger_operator.status import routes

ROUTED_SECONDS: Final = 1.0
"""How long the first revision's servers must have been available before they count as serving. They have been ready for two
seconds before that, and routers resolve names every second."""


@dataclass(frozen=True)
class Situation:
    """What was understood, decided and seen. `refused` is what the cluster did not accept in this pass."""

    snapshot: Snapshot
    resolution: Resolution
    state: State
    analysis: AnalysisStatus | None
    refused: UserError | None = None
    drift: DriftStatus | None = None
    retraining: RetrainingStatus | None = None

    @property
    def problem(self) -> OperatorError | None:
        """What stands in the way of the spec's content, if anything."""
        return self.refused or self.resolution.problem

    @cached_property
    def target(self) -> str | None:
        """The revision that the spec asks for, once it is known."""
        return self.resolution.content.revision if self.resolution.content else None

    @property
    def stable_servers(self) -> Servers:
        """What was seen of the stable revision's servers."""
        stable = self.state.stable
        return self.snapshot.servers.get(stable.revision, Servers()) if stable else Servers()

    @property
    def unfit(self) -> str | None:
        """Why servers of what the spec asks for run on no node, while nothing is under way that would change it."""
        servers = self.stable_servers
        if servers.reason != reasons.ENGINE_INCOMPATIBLE or self.problem or self.state.canary:
            return None
        return str(servers.trouble).removeprefix(f"{servers.reason}: ")

    @property
    def serving(self) -> bool:
        """Whether requests are answered."""
        return self.routed and self.stable_servers.ready > 0 and routes.trouble(self.snapshot) is None

    @property
    def routed(self) -> bool:
        """Whether the routers know a stable revision: the first one has to be told to them, later ones take over."""
        stable = self.state.stable
        if stable is None or stable.since is None:
            return False
        known = any(c.type == reasons.SERVING and c.status == "True" for c in self.snapshot.status.conditions)
        told = self.snapshot.spec.router.type == "Envoy" or self.snapshot.router.routes.told
        return known or (told and self.snapshot.now - unix(stable.since) >= ROUTED_SECONDS)

    @property
    def hold_reason(self) -> str:
        """Who holds: a person, or drift."""
        pause = self.snapshot.steering.pause
        return reasons.DRIFT_HOLD if pause and pause.by == HELD_BY else reasons.HELD

    @property
    def held(self) -> bool:
        """Whether a person, or drift, holds back what would come next."""
        if self.snapshot.steering.pause is None:
            return False
        state = self.state
        if state.canary:
            return True
        changed = (
            state.stable is not None
            and state.stable.since is not None
            and self.target
            not in (
                None,
                state.stable.revision,
            )
        )
        return changed and not state.is_rejected(self.target or "")
