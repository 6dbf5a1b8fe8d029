"""Step `export`: the ONNX graph, the tokenizer, and PyTorch's own answers to the comparison texts."""

from __future__ import annotations

from tapchanger_serving.build import durations, log
from tapchanger_serving.build.places import Places
from tapchanger_serving.contract.messages import BuildRequest


def export(request: BuildRequest, places: Places) -> None:
    """Exports the checkpoint that `fetch` verified.

    Raises `ExportFailed`, `CheckpointIncomplete` or `ModelUnsupported`.
    """
    if places.unchanged.exists():
        log.info("build is in the store already; nothing to export", build=request.name)
        return
    # Importing PyTorch takes longer than all that an unchanged build does.
    from tapchanger_serving.build.conversion import convert

    convert(request, places)
    durations.remember(places, "export")
