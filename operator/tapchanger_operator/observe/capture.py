"""Asks the capturing sidecars of a deployment's servers what they did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import httpx
from pydantic import ValidationError

from tapchanger_operator import names
from tapchanger_operator.api.base import unix
from tapchanger_operator.api.capture import CaptureSpec, CaptureStatus
from tapchanger_serving.contract.capture import METRICS_PORT, TELL_PATH, Told

EVERY_SECONDS: Final = 60.0
_TIMEOUT_SECONDS: Final = 1.0
_AT_ONCE: Final = 16


def told(
    capture: CaptureSpec | None, before: CaptureStatus | None, pods: Sequence[Mapping[str, Any]], now: float
) -> tuple[Told, ...] | None:
    """What each sidecar that answers says; None where it is not yet time to ask again, or nothing is captured.

    A sidecar that doesn't answer is passed over: it is starting, or its pod is ending.
    """
    if capture is None or (before and before.asked_at and now - unix(before.asked_at) < EVERY_SECONDS):
        return None
    addresses = [address for pod in pods if (address := _address(pod))]
    if not addresses:
        return ()
    with httpx.Client(timeout=_TIMEOUT_SECONDS) as http, ThreadPoolExecutor(_AT_ONCE) as threads:
        answers = threads.map(lambda address: _ask(http, address), addresses)
        return tuple(answer for answer in answers if answer)


def _address(pod: Mapping[str, Any]) -> str | None:
    status = pod.get("status", {})
    containers = [container["name"] for container in pod.get("spec", {}).get("initContainers", [])]
    server = pod["metadata"].get("labels", {}).get(names.LABEL_COMPONENT) == names.COMPONENT_SERVER
    running = server and "capture" in containers and status.get("phase") == "Running"
    return status.get("podIP") if running else None


def _ask(http: httpx.Client, address: str) -> Told | None:
    host = f"[{address}]" if ":" in address else address
    try:
        answer = http.get(f"http://{host}:{METRICS_PORT}{TELL_PATH}")
        answer.raise_for_status()
        return Told.model_validate_json(answer.content)
    except (httpx.HTTPError, ValidationError):
        return None
