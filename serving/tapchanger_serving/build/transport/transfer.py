"""One conversation with an object store: listing, reading in ranges and any other call, repeated while it may help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar

from tapchanger_serving.build.failures import StepError, TransientStepError
from tapchanger_serving.build.limits import Budget, Patience
from tapchanger_serving.build.transport.clients import Store, open_store, status_of
from tapchanger_serving.build.transport.http import passing

T = TypeVar("T")

LISTING_SECONDS = 60.0
_READING_SECONDS = 120.0
_LARGEST_RANGE, _SMALLEST_RANGE = 8 << 20, 64 << 10
_AT_ONCE = 4
NAMES = {"s3": "bucket", "gs": "bucket", "az": "container"}
"""What a store calls that which holds the objects."""
_DENIED = (401, 403)


class Place(Protocol):
    """What is talked about, and how its failures are told."""

    @property
    def uri(self) -> str:
        """The address, for messages."""
        ...

    @property
    def scheme(self) -> str:
        """`s3`, `gs` or `az`."""
        ...

    @property
    def field(self) -> str:
        """What somebody has to change where the address is at fault."""
        ...

    def failure(self, reason: str, what: str, remedy: str) -> StepError:
        """An error about this address."""
        ...

    def denied(self, said: str) -> StepError:
        """The store lets nobody in."""
        ...

    def missing(self, said: str) -> StepError:
        """There is nothing at the path."""
        ...


@dataclass(frozen=True)
class Transfer:
    """A conversation. Raises what `place` makes of a failure, and StepError as `budget` and `patience` do."""

    place: Place
    store: Store
    budget: Budget
    patience: Patience

    @classmethod
    def open(cls, place: Place, budget: Budget, patience: Patience) -> Transfer:
        """Reads the login from the environment."""
        try:
            store = open_store(place.scheme)
        except ValueError as error:
            raise place.denied(str(error)) from error
        return cls(place, store, budget, patience)

    def listing(self, path: str) -> list[Any]:
        """What lies right under a path."""
        entries: list[Any] = self.call(
            lambda left: self.store.client.ls(path, detail=True, timeout=min(left, LISTING_SECONDS))
        )
        self.budget.listed(len(entries))
        return entries

    def fetch(self, entry: Any, target: Path) -> None:
        """Writes the object to `target`, in ranges; after a failure it goes on behind the last byte that came."""
        size, length, done = size_of(entry), _LARGEST_RANGE, 0
        self.budget.reached(size)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as writer:
            while done < size:
                starts = range(done, size, length)[:_AT_ONCE]
                parts, problem = self._ranges(entry["name"], starts, [min(start + length, size) for start in starts])
                for part in parts:
                    writer.write(part)
                    done += len(part)
                if parts:
                    self.patience.progress()
                if problem:
                    # A way that breaks after so many bytes lets shorter ranges through.
                    length = max(length // 4, _SMALLEST_RANGE)
                    self._trouble(problem)
        self.budget.spend(done)
        now = self.call(lambda left: self.store.client.info(entry["name"], timeout=min(left, LISTING_SECONDS)))
        if (size_of(now), mark_of(now)) != (size, mark_of(entry)):
            raise TransientStepError(
                "DownloadFailed",
                f"{self.place.uri}: {name_of(entry)} changed while it was being read",
                field=self.place.field,
                remedy="leave what is published as it is and give a new version a new path; it is tried again",
            )

    def _ranges(self, path: str, starts: range, ends: list[int]) -> tuple[list[bytes], BaseException | None]:
        """What came of the ranges up to the first that failed, and how that one failed."""
        left = min(self.budget.in_time(), _READING_SECONDS)
        try:
            answers = self.store.client.cat_ranges(
                [path] * len(starts), list(starts), ends, on_error="return", timeout=left
            )
        except self.store.errors as error:
            return [], error
        parts: list[bytes] = []
        for answer, start, end in zip(answers, starts, ends, strict=True):
            if isinstance(answer, self.store.errors):
                return parts, answer
            if isinstance(answer, BaseException):
                raise answer
            if len(answer) != end - start:
                return parts, OSError(f"{len(answer)} bytes came of a range of {end - start}")
            parts.append(answer)
        return parts, None

    def call(self, action: Callable[[float], T]) -> T:
        """Repeats `action`, which gets the seconds that are left, until it succeeds or fails for good."""
        while True:
            try:
                result = action(self.budget.in_time())
            except self.store.errors as error:
                self._trouble(error)
            else:
                self.patience.progress()
                return result

    def _trouble(self, error: BaseException) -> None:
        """Waits for the next attempt. Raises StepError for what would only fail again."""
        said, status, name = _said(error), status_of(error), NAMES[self.place.scheme]
        if status in _DENIED or type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
            raise self.place.denied(said) from error
        if status == 404:
            raise self.place.missing(said) from error
        if status is not None and not passing(status):
            remedy = f"check the {name}, its region and the endpoint"
            raise self.place.failure("DownloadFailed", f"{said} (HTTP {status})", remedy) from error
        self.patience.failed(said)


def _said(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def name_of(entry: Any) -> str:
    """The last part of its path."""
    return PurePosixPath(entry["name"]).name


def size_of(entry: Any) -> int:
    """Bytes."""
    return int(entry["size"])


def mark_of(entry: Any) -> str:
    """The store's own mark of the content: entity tag or generation."""
    return str(entry.get("ETag") or entry.get("etag") or entry.get("generation") or "")
