"""What a load noted, and the questions that tests ask of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import overload

from dev.common.traffic import Answer


@dataclass(frozen=True)
class Record(Answer):
    """An answer with the number of its text in the plan and the time at which it was due (Unix seconds)."""

    text: int
    due: float

    def line(self) -> str:
        """The record as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, line: str) -> Record:
        """The record that :meth:`line` wrote. Raises ValueError, or TypeError where a field is missing."""
        return cls(**json.loads(line))


@dataclass(frozen=True)
class Records(Sequence[Record]):
    """Records in the order in which they were sent."""

    items: tuple[Record, ...]

    @classmethod
    def of(cls, records: Iterable[Record]) -> Records:
        """Sorts what came in any order."""
        return cls(tuple(sorted(records, key=lambda record: record.sent)))

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Records: ...
    def __getitem__(self, index: int | slice) -> Record | Records:
        return Records(self.items[index]) if isinstance(index, slice) else self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.items)

    def where(self, wanted: Callable[[Record], bool]) -> Records:
        """Those for which `wanted` holds."""
        return Records(tuple(record for record in self.items if wanted(record)))

    def between(self, since: float, until: float) -> Records:
        """Those sent at `since` or later and before `until` (Unix seconds)."""
        return self.where(lambda record: since <= record.sent < until)

    def of_revision(self, revision: str) -> Records:
        """Those that `revision` answered, with success or not."""
        return self.where(lambda record: record.revision == revision)

    def failures(self) -> Records:
        """Those that failed."""
        return self.where(lambda record: record.failed)

    def revisions(self) -> list[str]:
        """The revisions that answered, in the order of their first answers."""
        return list(dict.fromkeys(record.revision for record in self.items if record.revision is not None))

    def share(self, revision: str, since: float = -math.inf, until: float = math.inf) -> float:
        """The part (0 to 1) of the requests sent in that time that `revision` answered. Raises ValueError for no request."""
        during = self.between(since, until)
        if not during:
            raise ValueError(f"no request was sent between {since} and {until}, so revision {revision} has no share")
        return len(during.of_revision(revision)) / len(during)

    def quantile(self, q: float) -> float:
        """Seconds that a part `q` of the requests took at most (nearest rank). Raises ValueError for no request."""
        if not self.items:
            raise ValueError(f"no request was sent, so there is no quantile {q}")
        ordered = sorted(record.seconds for record in self.items)
        return ordered[max(math.ceil(q * len(ordered)) - 1, 0)]

    def first_bad(self, revision: str, slower_than: float = math.inf) -> float | None:
        """When `revision` first failed or took longer than `slower_than` seconds (the end, in Unix seconds)."""
        bad = self.of_revision(revision).where(lambda record: record.failed or record.seconds > slower_than)
        return min((record.ended for record in bad), default=None)

    def last_answer(self, revision: str) -> float | None:
        """When `revision` ended its last answer (Unix seconds)."""
        return max((record.ended for record in self.of_revision(revision)), default=None)

    def summary(self) -> dict[str, object]:
        """Counts, failures by code and latency in milliseconds, for people."""
        codes = [record.code for record in self.failures()]
        answered = {revision: len(self.of_revision(revision)) for revision in self.revisions()}
        quantiles = {f"p{q}_ms": round(self.quantile(q / 100) * 1e3, 1) for q in (50, 90, 99)} if self.items else {}
        return {
            "requests": len(self),
            "failed": {code: codes.count(code) for code in sorted(set(codes))},
            "revisions": answered,
            **quantiles,
        }
