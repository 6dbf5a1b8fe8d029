"""How long each step took. The steps are separate containers, so the figures travel on the scratch volume."""

from __future__ import annotations

import json
import time

from tapchanger_serving.build.places import Places

_FILE = "seconds.json"
_STARTED = time.monotonic()


def remember(places: Places, step: str) -> None:
    """Notes the seconds since this process began, importing PyTorch and the runtimes included, as those of `step`."""
    taken = recall(places) | {step: round(time.monotonic() - _STARTED, 2)}
    (places.work / _FILE).write_text(json.dumps(taken), encoding="utf-8")


def recall(places: Places) -> dict[str, float]:
    """Seconds by step, of those noted so far."""
    path = places.work / _FILE
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
