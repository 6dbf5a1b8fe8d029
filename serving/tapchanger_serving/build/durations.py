"""How long each step took. The steps are separate containers, so the figures travel on the scratch volume."""

from __future__ import annotations

import json

from tapchanger_serving.build.places import Places

_FILE = "seconds.json"


def remember(places: Places, step: str, seconds: float) -> None:
    """Notes the seconds of one step."""
    (places.work / _FILE).write_text(json.dumps(recall(places) | {step: round(seconds, 2)}), encoding="utf-8")


def recall(places: Places) -> dict[str, float]:
    """Seconds by step, of those noted so far."""
    path = places.work / _FILE
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
