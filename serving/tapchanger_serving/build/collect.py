"""Step `collect`: removes from the store what nobody refers to and nobody has used for long, and says so line by line."""

from __future__ import annotations

from tapchanger_serving.build import log, stores
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.stores import Entry
from tapchanger_serving.build.stores.base import KeepsAllError, Kind
from tapchanger_serving.build.stores.volume import Volume
from tapchanger_serving.contract.messages import Collection

LEFTOVER_SECONDS = 24 * 3600.0
"""A build ends within hours: what is still half-written after a day was left by one that was killed."""
_LEFTOVER = "left half-written by a build that was killed"
_WHY: dict[Kind, str] = {
    "report": "no EngineBuild of this name",
    "artifact": "no EngineBuild and no revision refers to it",
    "download": "no EngineBuild is made from it",
}


def collect(order: Collection, places: Places) -> None:
    """Removes or, with `dry_run`, lists what `order` does not keep and what is older than it says.

    A reference keeps a thing whatever its age, and its age keeps it for builds that have started since the order was
    written. Two of these at once do no harm. Reports go first: one without its artifact only costs a build, and says
    nothing that isn't true.
    """
    removed, freed = 0, 0
    kept = _kept(order)
    with stores.opened(places) as store:
        try:
            for entry in list(store.entries()):
                least = LEFTOVER_SECONDS if entry.half else order.older_than_seconds
                if entry.age < least or (not entry.half and entry.name in kept[entry.kind]):
                    continue
                if not order.dry_run and not store.remove(entry, least):
                    continue
                removed, freed = removed + 1, freed + entry.size
                _tell("would remove" if order.dry_run else "removed", entry)
        except KeepsAllError as refusal:
            log.warning("the store lets nothing be removed; use its own rules for what is old", error=str(refusal))
    log.info("collected", removed=removed, freed_bytes=freed, dry_run=order.dry_run)


def sweep(places: Places) -> None:
    """Removes from the volume what killed builds left half-written more than a day ago. Elsewhere only `collect` does so."""
    store = Volume(places)
    for entry in list(store.entries()):
        if entry.half and entry.age >= LEFTOVER_SECONDS and store.remove(entry, LEFTOVER_SECONDS):
            _tell("removed", entry)


def _kept(order: Collection) -> dict[Kind, set[str]]:
    return {
        "report": set(order.builds),
        "artifact": {digest.replace(":", "-") for digest in order.artifacts},
        "download": {digest.replace(":", "-") for digest in order.models},
    }


def _tell(message: str, entry: Entry) -> None:
    kind, why = ("leftover", _LEFTOVER) if entry.half else (entry.kind, _WHY[entry.kind])
    log.info(
        message, path=entry.path, kind=kind, why=why, size_bytes=entry.size, age_hours=round(entry.age / 3600, 1)
    )  # fmt: skip
