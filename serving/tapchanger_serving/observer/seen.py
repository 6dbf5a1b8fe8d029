"""Which spans were counted already: senders repeat a payload whose answer they missed."""

from __future__ import annotations


class Seen:
    """Remembers at least the last `limit` and at most the last 2 × `limit` spans (about 150 bytes each)."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()

    def first_time(self, trace_id: bytes, span_id: bytes) -> bool:
        """False for a span that is remembered. One without ids can't be told from another and is always new."""
        if not span_id:
            return True
        key = trace_id + span_id
        if key in self._young or key in self._old:
            return False
        self._young.add(key)
        if len(self._young) >= self._limit:
            self._old, self._young = self._young, set()
        return True
