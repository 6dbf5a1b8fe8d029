"""Asks the observer what users felt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import httpx
from pydantic import ValidationError

from tapchanger_operator.snapshot import Silence
from tapchanger_serving.contract.names import OBSERVER_API_PORT
from tapchanger_serving.contract.windows import Windows

_TIMEOUT_SECONDS = 2.0


class Observer:
    """Client of the observer's API."""

    def __init__(self, host: str, token: Path | None = None, http: httpx.Client | None = None) -> None:
        self._token = token
        self._http = http or httpx.Client(timeout=_TIMEOUT_SECONDS)
        self._url = f"http://{host}:{OBSERVER_API_PORT}/v1/windows"

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
            answer = self._http.get(self._url, params=query, headers=self._credential())
            answer.raise_for_status()
            return Windows.model_validate_json(answer.content)
        except (httpx.HTTPError, ValidationError, OSError) as problem:
            return Silence(f"the observer did not answer: {type(problem).__name__}: {str(problem)[:200]}")

    def _credential(self) -> dict[str, str]:
        """The token, read each time because the kubelet renews it. Raises OSError."""
        if self._token is None:
            return {}
        return {"Authorization": f"Bearer {self._token.read_text(encoding='ascii').strip()}"}
