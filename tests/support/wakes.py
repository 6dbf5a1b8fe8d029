"""When the operator passes over an object: at the time that its last pass named, and whenever something changed that it
watches (as the handlers in `tapchanger_operator.main`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tapchanger_operator import names
from tapchanger_operator.names import Ref
from tests.support.fake_kube import Object

_WATCHED: Final = (*names.PASSED, "Deployment", "Job", "Pod", "HTTPRoute", "GRPCRoute")


@dataclass
class Wakes:
    """What each pass saw, and when the next one is due (Unix seconds)."""

    _seen: dict[Ref, frozenset[tuple[Ref, str]]] = field(default_factory=dict)
    _due: dict[Ref, float] = field(default_factory=dict)

    def awake(self, objects: Mapping[Ref, Object], now: float) -> list[Ref]:
        """What a pass goes over now; that it does is noted."""
        watched = _watched(objects)
        found = []
        for ref in [ref for ref in objects if ref.kind in names.PASSED]:
            seen = frozenset(watched[ref])
            if seen != self._seen.get(ref) or now >= self._due.get(ref, now):
                self._seen[ref] = seen
                found.append(ref)
        return found

    def passed(self, ref: Ref, again: float | None) -> None:
        """A pass over `ref` wants the next one at `again`; None for never."""
        self._due[ref] = float("inf") if again is None else again


def _watched(objects: Mapping[Ref, Object]) -> dict[Ref, list[tuple[Ref, str]]]:
    """The versions of what a change wakes, by what it wakes."""
    found: dict[Ref, list[tuple[Ref, str]]] = defaultdict(list)
    for ref, item in objects.items():
        if ref.kind in _WATCHED:
            for one in names.concerned(ref, item["metadata"]):
                found[one].append((ref, item["metadata"]["resourceVersion"]))
    return found
