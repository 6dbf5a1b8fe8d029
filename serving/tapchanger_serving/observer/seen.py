"""Which spans were counted already, since senders repeat a payload whose answer they missed, and how requests went."""

from __future__ import annotations


class Seen:
    """Remembers at least the last `limit` and at most the last 2 × `limit` spans (about 180 bytes each)."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._young: dict[bytes, float | None] = {}
        self._old: dict[bytes, float | None] = {}

    def first_time(self, identity: bytes, told: float | None = None) -> bool:
        """False for a span that is remembered; a new one is, with what it `told`.

        `identity` is the trace's id and then the span's.
        """
        if identity in self._young or identity in self._old:
            return False
        self._young[identity] = told
        if len(self._young) >= self._limit:
            self._old, self._young = self._young, {}
        return True

    def recall(self, identity: bytes) -> float | None:
        """What a span told; None where it told nothing or isn't remembered."""
        told = self._young.get(identity)
        return self._old.get(identity) if told is None else told
