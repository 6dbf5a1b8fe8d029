"""Makes the objects of a retraining run. What the cluster refuses ends the run, and nothing else."""

from __future__ import annotations

import logging

from tapchanger_operator.errors import Transient, UserError
from tapchanger_operator.kube import Kube
from tapchanger_operator.names import Ref
from tapchanger_operator.plan.retraining import objects
from tapchanger_operator.settings import Images
from tapchanger_operator.snapshot import Snapshot

log = logging.getLogger(__name__)


def launch(kube: Kube, snapshot: Snapshot, images: Images) -> UserError | None:
    """Makes what a run that starts lacks; the Job of one that runs is never made again. Returns what was refused.

    Where the API server can't just now, the next pass tries again: serving must not wait for a run.
    """
    status = snapshot.status.retraining
    if status is None or status.run is None or status.run.phase != "Starting":
        return None
    for manifest in objects(snapshot, images):
        if Ref.of(manifest) in snapshot.live:
            continue
        try:
            kube.apply(manifest)
        except UserError as problem:
            return problem
        except Transient as problem:
            fields = {"namespace": snapshot.owner.namespace, "object": snapshot.owner.name, "run": status.run.name}
            log.warning("a retraining run's start will be tried again: %s", problem.message, extra=fields)
            return None
    return None
