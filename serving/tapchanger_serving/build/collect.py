"""Step `collect`: removes from the store what nobody refers to and nobody has used for long, and says so line by line."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tapchanger_serving.build import log
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.store import INCOMING
from tapchanger_serving.contract.messages import Collection

LEFTOVER_SECONDS = 24 * 3600.0
"""A build ends within hours: what is still called incoming after a day was left by one that was killed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in the store; `why` says why nobody needs it."""

    path: Path
    kind: str
    why: str
    least_age: float


def collect(order: Collection, places: Places) -> None:
    """Removes or, with `dry_run`, lists what `order` does not keep and what is older than it says.

    A reference keeps a thing whatever its age, and its age keeps it for builds that have started since the order was
    written. Two of these at once do no harm: what is taken away is renamed first, and only one of them can do that.
    """
    removed, freed = 0, 0
    for entry in _unneeded(order, places):
        age = _age(entry.path)
        if age is None or age < entry.least_age:
            continue
        size = _size(entry.path)
        if not order.dry_run and not _remove(entry):
            continue
        removed, freed = removed + 1, freed + size
        log.info(
            "would remove" if order.dry_run else "removed",
            path=str(entry.path.relative_to(places.store)), kind=entry.kind, why=entry.why, size_bytes=size,
            age_hours=round(age / 3600, 1),
        )  # fmt: skip
    log.info("collected", removed=removed, freed_bytes=freed, dry_run=order.dry_run)


def sweep(places: Places) -> None:
    """Removes what killed builds left half-written more than a day ago."""
    for entry in _leftovers(places):
        age = _age(entry.path)
        if age is not None and age >= entry.least_age and _remove(entry):
            log.info("removed", path=str(entry.path.relative_to(places.store)), kind=entry.kind, why=entry.why)


def _unneeded(order: Collection, places: Places) -> Iterator[Entry]:
    yield from _leftovers(places)
    least = order.older_than_seconds
    kept = {
        "reports": set(order.builds),
        "artifacts": {digest.replace(":", "-") for digest in order.artifacts},
        "models": {digest.replace(":", "-") for digest in order.models},
    }
    whose = {
        "reports": ("report", "no EngineBuild of this name"),
        "artifacts": ("artifact", "no EngineBuild and no revision refers to it"),
        "models": ("download", "no EngineBuild is made from it"),
    }
    # Reports go first: one without its artifact only costs a build, and says nothing that isn't true.
    for room, names in kept.items():
        kind, why = whose[room]
        for path in _entries(places.store / room):
            if path.name.partition(".")[0] not in names and not path.name.startswith(INCOMING):
                yield Entry(path, kind, why, least)


def _leftovers(places: Places) -> Iterator[Entry]:
    for room in ("reports", "artifacts", "models", "timings"):
        for path in _entries(places.store / room):
            if path.name.startswith(INCOMING):
                yield Entry(path, "leftover", "left half-written by a build that was killed", LEFTOVER_SECONDS)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _age(path: Path) -> float | None:
    """Seconds since the thing, or a file right inside it, was last written or used; None if it is gone."""
    try:
        times = [path.stat().st_mtime, *(inside.stat().st_mtime for inside in _entries(path))]
    except FileNotFoundError:
        return None
    return time.time() - max(times)


def _size(path: Path) -> int:
    size = 0
    for file in [path, *path.rglob("*")]:
        with suppress(FileNotFoundError):
            size += file.stat().st_size if file.is_file() else 0
    return size


def _remove(entry: Entry) -> bool:
    """Renames, looks again, deletes: a build that has begun to use it in between gets it back. False if nothing was removed."""
    aside = Path(tempfile.mkdtemp(prefix=INCOMING, dir=entry.path.parent))
    taken = aside / entry.path.name
    try:
        entry.path.rename(taken)
        age = _age(taken)
        if age is not None and age < entry.least_age:
            _put_back(taken, entry.path)
            return False
    except FileNotFoundError:
        return False
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return True


def _put_back(taken: Path, place: Path) -> None:
    """Where a build has meanwhile made the same again, the new one stays."""
    with suppress(OSError):
        if not os.path.lexists(place):
            taken.rename(place)
