"""Progress as JSON lines on standard output: `level`, `msg`, then the event's own fields.

What begins is said before it does (`number` and `of` count such things), what ended with its `seconds`.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback

from tapchanger_serving.build.redaction import redacted


class _Lines(logging.Handler):
    """Turns the libraries' own errors into lines like all others."""

    def emit(self, record: logging.LogRecord) -> None:
        _write(record.levelname.lower(), record.getMessage(), {"logger": record.name})


def adopt_libraries() -> None:
    """Sends the libraries' errors here and drops their warnings, which are advice for whoever wrote the calls."""
    logging.basicConfig(handlers=[_Lines()], force=True)
    logging.captureWarnings(capture=True)
    logging.disable(logging.WARNING)


def info(msg: str, **fields: object) -> None:
    """Says what the step did, once."""
    _write("info", msg, fields)


def progress(msg: str, number: int, of: int, **fields: object) -> None:
    """Says what begins now, the `number`-th of so many."""
    _write("info", msg, {"number": number, "of": of} | fields)


def warning(msg: str, **fields: object) -> None:
    """Says what went wrong without stopping the step."""
    _write("warning", msg, fields)


def crash(msg: str, error: BaseException) -> None:
    """Says why the step ends, with the traceback."""
    _write("error", msg, {"error": str(error), "traceback": "".join(traceback.format_exception(error))})


def _write(level: str, msg: str, fields: dict[str, object]) -> None:
    line = {"ts": round(time.time(), 3), "level": level, "msg": msg} | fields
    sys.stdout.write(redacted(json.dumps(line, ensure_ascii=False, default=str)) + "\n")
    sys.stdout.flush()
