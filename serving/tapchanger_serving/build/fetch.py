"""Step `fetch`: a verified copy of the checkpoint and of the evaluation data, on the build's scratch volume."""

from __future__ import annotations

import time

from tapchanger_serving.build import cache, collect, credentials, durations, log, stores
from tapchanger_serving.build.checkpoint import read_checkpoint
from tapchanger_serving.build.dataset import require_size, suffix_of
from tapchanger_serving.build.digest import copy_hashed, copy_tree
from tapchanger_serving.build.distill.pick import require_smaller
from tapchanger_serving.build.failures import (
    CALIBRATION_FIELD,
    DATASET_FIELD,
    DISTILL_FIELD,
    DRIFT_FIELD,
    MODEL_FIELD,
    StepError,
)
from tapchanger_serving.build.inspection import require_pin
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.scratch import scratch
from tapchanger_serving.build.sources import source_of
from tapchanger_serving.contract.messages import BuildRequest


def fetch(request: BuildRequest, places: Places) -> None:
    """Copies what the build needs; if the store already holds this build, only leaves the marker that says so.

    Raises `DigestMismatch` if the checkpoint is not the one that was inspected, `DistillInvalid` if it has too few layers for the
    student that is asked for.
    """
    places.work.mkdir(parents=True, exist_ok=True)
    places.unchanged.unlink(missing_ok=True)
    with stores.opened(places) as store:
        found = store.finished(request.name)
    if found is not None:
        places.unchanged.touch()
        log.info("build is in the store already; nothing to do", build=request.name)
        return
    collect.sweep(places)
    started = time.monotonic()
    credentials.adopt(places.credentials)
    log.info("fetching checkpoint", uri=request.uri)
    source = source_of(request.uri, claims=places.claims)
    with scratch() as folder:
        kept = cache.kept(places, request.digest) if source.remote else None
        checkpoint = read_checkpoint(kept or source.folder(folder), request.task)
        digest = copy_tree(checkpoint.folder, checkpoint.files, places.checkpoint)
    require_pin(request.uri, source.tree_pin, digest)
    if digest != request.digest:
        raise StepError(
            "DigestMismatch",
            f"{request.uri}: found {digest}, wanted {request.digest}; the content changed after it was inspected",
            field=MODEL_FIELD,
            remedy="leave a published checkpoint as it is and give a new version a new path",
        )
    if request.distill:
        require_smaller(places.checkpoint, request.distill)
    log.info("fetched checkpoint", uri=request.uri, digest=digest, seconds=round(time.monotonic() - started, 2))
    evaluation, calibration = request.gates.evaluation, request.calibration_data
    _fetch_data(places, "dataset", evaluation.dataset.uri if evaluation else None, DATASET_FIELD)
    _fetch_data(places, "calibration", calibration.uri if calibration else None, CALIBRATION_FIELD)
    distill = request.distill
    _fetch_data(places, "distill", distill.dataset.uri if distill else None, f"{DISTILL_FIELD}.dataset")
    drift = request.drift_data
    _fetch_data(places, "drift", drift.uri if drift else None, DRIFT_FIELD)
    durations.remember(places, "fetch")


def _fetch_data(places: Places, name: str, uri: str | None, field: str) -> None:
    """Puts the data at `uri` into the work folder as `name` and its suffix; only removes what was there if there is none."""
    for stale in places.work.glob(f"{name}.*"):
        stale.unlink()
    if uri is None:
        return
    source = source_of(uri, claims=places.claims, field=f"{field}.uri")
    with scratch() as folder:
        data = source.file(folder)
        require_size(data, uri, field)
        digest = "sha256:" + copy_hashed(data, places.work / f"{name}{suffix_of(data.name, field)}")
    if source.tree_pin not in (None, digest):
        raise StepError(
            "DigestMismatch",
            f"{uri}: found {digest}, wanted {source.tree_pin}",
            field=f"{field}.uri",
            remedy="pin the found digest if the new data is what you want",
        )
    log.info(f"fetched {name} data", uri=uri, digest=digest)
