"""What the command reads of a TransformerDeployment. A newer operator's fields are passed over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from tapchanger_cli.errors import CliError
from tapchanger_cli.words import printable
from tapchanger_operator.api import controls, reasons
from tapchanger_operator.api.rollout import DEFAULT_STEPS, Analysis, MirrorGate, RolloutSpec
from tapchanger_operator.api.spec import SloSpec
from tapchanger_operator.api.status import Condition, Rejection, TransformerDeploymentStatus


@dataclass(frozen=True)
class Policy:
    """The parts of the spec that explain a rollout. Weights are in percent."""

    uri: str
    weights: tuple[int, ...]
    min_requests: int
    timeout: str
    mirror_timeout: str
    on_inconclusive: str
    watch: str
    window: str


@dataclass(frozen=True)
class Subject:
    """One deployment as it was read."""

    name: str
    namespace: str
    created_at: str
    generation: int
    annotations: Mapping[str, str]
    policy: Policy
    status: TransformerDeploymentStatus

    def condition(self, kind: str) -> Condition | None:
        """The condition of that type, where the operator has written one."""
        return next((found for found in self.status.conditions if found.type == kind), None)

    @property
    def hold(self) -> str | None:
        """The reason for which a person holds the rollout; None where nobody does."""
        return self.annotations.get(controls.PAUSE)

    @property
    def hold_by(self) -> str:
        """The name that was written beside the hold."""
        return self.annotations.get(controls.PAUSE + controls.BY_SUFFIX, "")

    @property
    def hold_shown(self) -> bool:
        """Whether status says that the rollout is held."""
        canary, stalled = self.status.canary, self.condition(reasons.STALLED)
        held = stalled is not None and stalled.status == "True" and stalled.reason == reasons.HELD
        return held or bool(canary and canary.held_at)

    @property
    def rejection(self) -> Rejection | None:
        """The record by which the content that the spec asks for now is not tried again."""
        wanted = self.status.target.revision if self.status.target else None
        return next((found for found in reversed(self.status.rejected) if found.revision == wanted), None)

    @property
    def under_way(self) -> bool:
        """Whether there is something that a hold would stop."""
        status = self.status
        if status.canary:
            return True
        if status.stable is None or status.stable.since is None or status.target is None:
            return False
        return status.target.revision not in (None, status.stable.revision) and self.rejection is None

    @property
    def ready(self) -> str:
        """The status of the condition Ready."""
        found = self.condition(reasons.READY)
        return found.status if found else "Unknown"

    @property
    def sentence(self) -> str:
        """What is going on, in the operator's words."""
        return self.status.message or "the operator has not looked at it yet"

    @property
    def outdated(self) -> bool:
        """Whether status is about an older spec than the present one."""
        return self.status.observed_generation < self.generation


def read(body: Mapping[str, Any]) -> Subject:
    """A deployment from its object. Raises CliError where its status is not of this release."""
    meta, status = printable(body["metadata"]), printable(body.get("status") or {})
    name = str(meta["name"])
    # What was found in the checkpoint is not shown, and its type refuses fields that it does not know.
    shown = {key: value for key, value in status.items() if key != "model"}
    try:
        parsed = TransformerDeploymentStatus.model_validate(shown)
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CliError(
            f"status.{where} of {name} can't be read: {first['msg']}",
            "operator and command are of different releases; install the command of the operator's release",
        ) from None
    return Subject(
        name=name,
        namespace=str(meta.get("namespace", "")),
        created_at=str(meta.get("creationTimestamp", "")),
        generation=int(meta.get("generation", 0)),
        annotations=dict(meta.get("annotations") or {}),
        policy=_policy(printable(body.get("spec") or {})),
        status=parsed,
    )


def _policy(spec: Mapping[str, Any]) -> Policy:
    """Read leniently: the API server has checked and defaulted it, and a newer one may have more fields."""
    rollout, slo = spec.get("rollout") or {}, spec.get("slo") or {}
    analysis = rollout.get("analysis") or {}
    standard = Analysis()
    steps = rollout.get("steps")
    return Policy(
        uri=str((spec.get("model") or {}).get("uri", "")),
        weights=tuple(step["weight"] for step in steps)
        if steps is not None
        else tuple(step.weight for step in DEFAULT_STEPS),
        min_requests=int(analysis.get("minRequests", standard.min_requests)),
        timeout=str(analysis.get("timeout", standard.timeout)),
        mirror_timeout=str((rollout.get("mirrorGate") or {}).get("timeout", MirrorGate().timeout)),
        on_inconclusive=str(analysis.get("onInconclusive", standard.on_inconclusive)),
        watch=str(rollout.get("watch", RolloutSpec().watch)),
        window=str(slo.get("window", SloSpec().window)),
    )
