"""How the traffic is split among revisions, whoever routes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Mirror:
    """A share of the inference requests that is copied to `revision`, in percent. Nobody waits for what it answers."""

    revision: str
    percent: int


@dataclass(frozen=True)
class Split:
    """Shares of the traffic by revision. A revision with weight 0 is known to the router but gets nothing.

    Without `sticky` each request goes where chance sends it, by `weights` in percent. With `sticky`, the name of a request
    header (gRPC: metadata), its value is hashed to a slot, and `slots` says in slot order which revision has how many of
    them; a request without the header goes to a slot by chance. `weights` then counts slots.
    """

    weights: Mapping[str, int]
    slots: tuple[tuple[str, int], ...] = ()
    sticky: str | None = None
    mirror: Mirror | None = None

    def __post_init__(self) -> None:
        total = sum(self.weights.values())
        wanted = sum(size for _, size in self.slots) if self.slots else 100
        if self.weights and total != wanted:
            raise ValueError(f"weights must add up to {wanted}, not {total}: {dict(self.weights)}")

    @staticmethod
    def of_slots(slots: Sequence[tuple[str, int]], known: Iterable[str], sticky: str | None) -> Split:
        """The split by which `slots` (revision and number, in slot order) go; `known` revisions get nothing but are known."""
        weights = dict.fromkeys(known, 0)
        for revision, size in slots:
            weights[revision] = weights.get(revision, 0) + size
        return Split(weights, tuple(slots), sticky)

    def entries(self) -> list[tuple[str, int]]:
        """Revision and weight in the router's order. Envoy counts through them until it is past the hash or random number."""
        return list(self.slots) or [
            (revision, weight) for revision, weight in sorted(self.weights.items()) if weight > 0
        ]
