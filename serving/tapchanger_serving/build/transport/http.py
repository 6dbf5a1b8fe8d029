"""Downloads over HTTP that go on where they broke off."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import httpx

from tapchanger_serving.build.limits import Budget, Patience

TIMEOUT = httpx.Timeout(30, read=60)
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")

Opened = AbstractContextManager[httpx.Response]
Open = Callable[[Mapping[str, str]], Opened]
"""Sends a GET with these headers added and gives the answer as a stream."""


class RefusedError(Exception):
    """The server refuses, and would do so again. `status` is the HTTP status."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"HTTP {status} {reason}".strip())
        self.status = status


def passing(status: int) -> bool:
    """Whether a request that was answered with `status` may succeed when it is repeated."""
    return status in _PASSING


def retry_after(answer: httpx.Response) -> float:
    """Seconds for which the server asks to be left alone; 0 where it names none."""
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0


def download(open_: Open, target: Path, budget: Budget, patience: Patience, size: int | None = None) -> str:
    """Writes what `open_` gives to `target`; returns the hex SHA-256 of its bytes.

    A connection that breaks is opened again for the rest, where the server knows ranges, else from the start. `size` is
    the number of bytes if it is known. Raises :class:`RefusedError`, and StepError as `budget` and `patience` do.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(target, size)
    while True:
        budget.in_time()
        wanted, why = 0.0, ""
        try:
            with open_(part.headers()) as answer:
                if passing(answer.status_code):
                    wanted, why = retry_after(answer), f"HTTP {answer.status_code} {answer.reason_phrase}".strip()
                else:
                    part.take(answer, budget, patience)
        except httpx.TransportError as error:
            why = str(error) or type(error).__name__
        if not why and part.complete():
            budget.spend(part.done)
            return part.digest.hexdigest()
        patience.failed(why or f"ended after {part.done} of {size} bytes", wanted)


class _Part:
    """A file that grows."""

    def __init__(self, path: Path, size: int | None) -> None:
        self.path, self.size = path, size
        self.tag: str | None = None
        self.furthest = 0
        self._restart()

    def headers(self) -> dict[str, str]:
        """What to ask for next."""
        headers = {"Accept-Encoding": "identity"}
        if self.done:
            headers["Range"] = f"bytes={self.done}-"
            headers |= {"If-Range": self.tag} if self.tag else {}
        return headers

    def take(self, answer: httpx.Response, budget: Budget, patience: Patience) -> None:
        """Appends the body as far as it comes."""
        if answer.status_code >= httpx.codes.BAD_REQUEST or answer.status_code < httpx.codes.OK:
            raise RefusedError(answer.status_code, answer.reason_phrase)
        begins = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if answer.status_code != httpx.codes.PARTIAL_CONTENT or begins is None or int(begins[1]) != self.done:
            self._restart()
            if answer.status_code == httpx.codes.PARTIAL_CONTENT:
                raise RefusedError(answer.status_code, "with another range than was asked for")
        tag = answer.headers.get("ETag")
        self.tag = tag if tag and not tag.startswith("W/") else None
        announced = answer.headers.get("Content-Length", "")
        budget.reached(self.done + (int(announced) if announced.isdigit() else 0))
        with self.path.open("ab") as writer:
            for chunk in answer.iter_raw():
                writer.write(chunk)
                self.digest.update(chunk)
                self.done += len(chunk)
                if self.done > self.furthest:
                    self.furthest = self.done
                    patience.progress()
                budget.reached(self.done)
                budget.in_time()

    def complete(self) -> bool:
        """Whether all bytes are there, as far as their number is known."""
        return self.size is None or self.done == self.size

    def _restart(self) -> None:
        self.done, self.digest = 0, hashlib.sha256()
        self.path.write_bytes(b"")
