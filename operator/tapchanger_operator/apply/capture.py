"""Starts the Jobs that delete captured texts when their time is over, one a day for each place that has some."""

from __future__ import annotations

import logging

from tapchanger_operator.api.capture import CaptureStatus
from tapchanger_operator.apply.collect import PERIOD_SECONDS, Collections
from tapchanger_operator.errors import UserError
from tapchanger_operator.kube import Kube
from tapchanger_operator.names import Owner
from tapchanger_operator.plan.capture import retention_job
from tapchanger_operator.settings import Settings

log = logging.getLogger(__name__)


def retain(
    kube: Kube, looked: Collections, owner: Owner, status: CaptureStatus | None, settings: Settings, now: float
) -> None:
    """Also for places that nothing is written to any more. What refuses a Job is logged, no more; tomorrow there is another."""
    day = int(now // PERIOD_SECONDS)
    if status is None or not settings.images.capture:
        return
    for place in status.places:
        if not looked.due(f"{owner.uid} {place.prefix}", day):
            continue
        try:
            kube.create(retention_job(owner, place, day, settings))
        except UserError as problem:
            fields = {"namespace": owner.namespace, "object": owner.name}
            log.warning("the Job that deletes old captured texts was refused: %s", problem.message, extra=fields)
