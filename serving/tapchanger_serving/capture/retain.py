"""Deletes captured texts that are older than their retention. Run once a day by a Job of its own."""

from __future__ import annotations

from tapchanger_serving.build import log
from tapchanger_serving.capture.destination import Destination


def retain(place: Destination, seconds: float) -> int:
    """Deletes what was written more than `seconds` ago; returns how many objects that was. Two at once do no harm."""
    removed = freed = 0
    for entry in list(place.entries()):
        if entry.age >= seconds:
            place.delete(entry.path)
            removed, freed = removed + 1, freed + entry.size
    log.info("captured texts that are too old were deleted", removed=removed, freed_bytes=freed)
    return removed
