"""What everything is counted under."""

from __future__ import annotations

from typing import NamedTuple


class Key(NamedTuple):
    """What a request is counted under."""

    namespace: str
    deployment: str
    revision: str
