"""What is remembered of single requests: their answers, and the labels that came for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from tapchanger_serving.observer.answers import PIECE, Answers
from tapchanger_serving.observer.keys import Key
from tapchanger_serving.observer.labels import Judged

Given = tuple[Key, str, Judged]
"""Of which revision, the true label as it was said, and how it was counted."""
Name = tuple[bytes | str, int]
"""A request's identity, or the id that its label named, and which of its texts."""
SAVED: Final = 20_000


class Memory:
    """The last answers and the last labels: of labels at least `limit` / 2, at most `limit`, in about 400 bytes each."""

    def __init__(self, limit: int) -> None:
        self.answers = Answers(limit)
        self._limit = max(1, limit // 2)
        self._young: dict[Name, Given] = {}
        self._old: dict[Name, Given] = {}

    def given(self, name: Name) -> Given | None:
        """The label that counts for a text, if there was one."""
        return self._young.get(name) or self._old.get(name)

    def give(self, name: Name, given: Given) -> None:
        """Remember the label that counts for a text."""
        if name not in self._young and len(self._young) >= self._limit:
            self._old, self._young = self._young, {}
        self._young[name] = given

    def saved(self) -> Iterator[list[list[Any]]]:
        """The last labels, oldest first, in pieces for JSON."""
        both = [*((name, one) for name, one in self._old.items() if name not in self._young), *self._young.items()]
        for start in range(max(0, len(both) - SAVED), len(both), PIECE):
            yield [
                [
                    who.hex() if isinstance(who, bytes) else None,
                    who if isinstance(who, str) else None,
                    index,
                    *key,
                    said,
                    one,
                ]
                for (who, index), (key, said, one) in islice(both, start, start + PIECE)
            ]

    def load(self, rows: Iterable[list[Any]]) -> None:
        """What :meth:`saved` wrote. Raises ValueError, TypeError or IndexError for anything else."""
        for identity, name, index, namespace, deployment, revision, said, one in rows:
            at, right, correction, confidence, answered, told, slices, came = one
            judged = Judged(
                int(at),
                bool(right),
                bool(correction),
                None if confidence is None else float(confidence),
                str(answered),
                bool(told),
                tuple(str(part) for part in slices),
                float(came),
            )
            who = bytes.fromhex(identity) if identity is not None else str(name)
            self.give((who, int(index)), (Key(str(namespace), str(deployment), str(revision)), str(said), judged))
