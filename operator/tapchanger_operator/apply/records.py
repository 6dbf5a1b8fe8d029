"""What a status says between two writes of it.

Each look at the texts moves the drift monitor's state, and each request the figures of the objectives, so that a status written
each time would be most of what a thousand deployments write. One that says nothing new waits, for :data:`WRITE_SECONDS` at most,
and the drift record is kept in this process meanwhile. Nothing hangs on it: a process that starts anew goes on from the record in
status, and takes the steps since its `until` from the observer once more, which has them for longer than that.
"""

from __future__ import annotations

from typing import Any, Final

from tapchanger_operator.api.base import unix
from tapchanger_operator.api.drift import DriftStatus
from tapchanger_operator.api.status import TransformerDeploymentStatus
from tapchanger_operator.kube import Object
from tapchanger_operator.names import Ref

WRITE_SECONDS: Final = 300.0
"""A third of the time for which the observer keeps steps."""


class Records:
    """The last drift record of each deployment, when the one in its status was made, and when the status was written."""

    def __init__(self) -> None:
        self._times: dict[Ref, float] = {}
        self._written: dict[Ref, str] = {}
        self._last: dict[Ref, DriftStatus] = {}

    def recalled(self, ref: Ref, body: Object, now: float) -> Object:
        """The deployment with the last record in its status; a record that another one has written meanwhile wins."""
        status: dict[str, Any] = body.get("status", {})
        at = status.get("drift", {}).get("at", "")
        if self._written.get(ref) != at:
            self._last.pop(ref, None)
            self._written[ref], self._times[ref] = at, unix(at) if at else now
        last = self._last.get(ref)
        return body if last is None else {**body, "status": {**status, "drift": last.wire()}}

    def late(
        self, ref: Ref, status: TransformerDeploymentStatus, before: TransformerDeploymentStatus, now: float
    ) -> bool:
        """Whether it is time to write a status that says nothing new, but other figures than `before` or the written record."""
        if now - self._times.get(ref, now) < WRITE_SECONDS:
            return False
        return status != before or (status.drift is not None and status.drift.at != self._written.get(ref))

    def keep(self, ref: Ref, record: DriftStatus | None, now: float, *, written: bool) -> None:
        """Remember the record that a pass made, and whether it was written."""
        if record is None:
            self._last.pop(ref, None)
        else:
            self._last[ref] = record
        if written:
            self._written[ref], self._times[ref] = record.at if record else "", now

    def forget(self, ref: Ref) -> None:
        """For a deployment that is gone."""
        for known in (self._times, self._written, self._last):
            known.pop(ref, None)
