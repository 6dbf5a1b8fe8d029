"""Asks the observer what users felt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import httpx
from pydantic import ValidationError

from tapchanger_operator.snapshot import Silence
from tapchanger_serving.contract.credential import bearer
from tapchanger_serving.contract.drift import DriftWindow
from tapchanger_serving.contract.names import OBSERVER_API_PORT
from tapchanger_serving.contract.windows import Windows

_TIMEOUT_SECONDS = 2.0


class Source(Protocol):
    """What tells of users' requests: the observer, or a Prometheus with the observer behind it."""

    @property
    def delay(self) -> float:
        """Seconds after the end of a request by which it is counted; questions that say until when must be that late."""
        ...

    def windows(
        self, namespace: str, deployment: str, since: float, latencies: Sequence[float], until: float | None = None
    ) -> Windows | Silence:
        """Counts per revision from `since` to `until` or now (Unix seconds), against each of `latencies` (seconds)."""
        ...

    def mirrored(
        self, namespace: str, deployment: str, since: float, latencies: Sequence[float], until: float | None = None
    ) -> Windows | Silence:
        """The same, for what servers told of copied requests."""
        ...

    def drift(self, namespace: str, deployment: str, revision: str, since: float) -> DriftWindow | Silence:
        """What the texts of a revision were like in the steps since `since` (Unix seconds)."""
        ...


class Observer:
    """Client of the observer's API."""

    delay: float = 0.0

    def __init__(self, host: str, token: Path | None = None, http: httpx.Client | None = None) -> None:
        self._token = token
        self._http = http or httpx.Client(timeout=_TIMEOUT_SECONDS)
        self._base = f"http://{host}:{OBSERVER_API_PORT}/v1"

    def windows(
        self, namespace: str, deployment: str, since: float, latencies: Sequence[float], until: float | None = None
    ) -> Windows | Silence:
        """Counts per revision from `since` to `until` or now (Unix seconds), against each of `latencies` (seconds)."""
        query: list[tuple[str, str | int | float | bool | None]] = [
            ("namespace", namespace),
            ("deployment", deployment),
            ("since", since),
            *([] if until is None else [("until", until)]),
            *[("latency", latency) for latency in latencies],
        ]
        try:
            answer = self._http.get(f"{self._base}/windows", params=query, headers=self._credential())
            answer.raise_for_status()
            return Windows.model_validate_json(answer.content)
        except (httpx.HTTPError, ValidationError, OSError) as problem:
            return _silence(problem)

    def mirrored(
        self, namespace: str, deployment: str, since: float, latencies: Sequence[float], until: float | None = None
    ) -> Windows | Silence:
        """The same: the observer tells of copied requests beside the others."""
        return self.windows(namespace, deployment, since, latencies, until)

    def drift(self, namespace: str, deployment: str, revision: str, since: float) -> DriftWindow | Silence:
        """What the texts of a revision were like in the steps since `since` (Unix seconds)."""
        query = {"namespace": namespace, "deployment": deployment, "revision": revision, "since": str(since)}
        try:
            answer = self._http.get(f"{self._base}/drift", params=query, headers=self._credential())
            answer.raise_for_status()
            return DriftWindow.model_validate_json(answer.content)
        except (httpx.HTTPError, ValidationError, OSError) as problem:
            return _silence(problem)

    def _credential(self) -> dict[str, str]:
        """Raises OSError."""
        return {} if self._token is None else {"Authorization": bearer(self._token)}


def _silence(problem: Exception) -> Silence:
    return Silence(f"the observer did not answer: {type(problem).__name__}: {str(problem)[:200]}")
