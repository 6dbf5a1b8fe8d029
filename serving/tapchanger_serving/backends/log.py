"""JSON lines on standard error, beside Triton's own log."""

from __future__ import annotations

import json
import sys


def write(level: str, msg: str, **fields: object) -> None:
    """One event. Never called per request, never with a user's text."""
    sys.stderr.write(json.dumps({"level": level, "msg": msg, **fields}) + "\n")
    sys.stderr.flush()
