"""Step `distill`: trains the student and leaves its graph beside the model's own."""

from __future__ import annotations

from tapchanger_serving.build import durations, log
from tapchanger_serving.build.places import Places
from tapchanger_serving.contract.messages import BuildRequest


def distill(request: BuildRequest, places: Places) -> None:
    """Trains the student that the request asks for, with the model that `export` left as its teacher.

    Raises `DistillInvalid`, `DistillTooLarge`, `DistillDiverged` or `DatasetInvalid`.
    """
    if request.distill is None:
        log.info("no student is asked for")
        return
    if places.unchanged.exists():
        log.info("build is in the store already; nothing to distill", build=request.name)
        return
    # Importing PyTorch takes longer than all that an unchanged build does.
    from tapchanger_serving.build.distill.lesson import teach

    teach(request, request.distill, places)
    durations.remember(places, "distill")
