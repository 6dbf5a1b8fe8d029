"""The step's last word: the container's termination message, which the kubelet cuts at 4096 bytes."""

from __future__ import annotations

from pathlib import Path

from tapchanger_serving.build.redaction import redacted
from tapchanger_serving.contract.messages import TERMINATION_MESSAGE_LIMIT, Inspection, StepFailure

_SHORTENED = " …"


def write(path: Path, text: str) -> None:
    """Writes the message. The file exists already in a container; the folder may be read-only."""
    path.write_text(text, encoding="utf-8")


def size(text: str) -> int:
    """Bytes of a text as they count against the limit."""
    return len(text.encode())


def failure_text(failure: StepFailure) -> str:
    """The failure as JSON that fits; the message is shortened first, then the remedy."""
    message, remedy = redacted(failure.message), failure.remedy and redacted(failure.remedy)
    for length in (2000, 1000, 500, 200):
        fitting = failure.model_copy(
            update={"message": shorten(message, length), "remedy": remedy and shorten(remedy, length)}
        )
        text = fitting.dumps()
        if size(text) <= TERMINATION_MESSAGE_LIMIT:
            return text
    return StepFailure(reason=shorten(failure.reason, 100), message="see the step's log").dumps()


def inspection_text(inspection: Inspection) -> str:
    """The inspection as JSON that fits; a model with very many labels loses their names here, not in the artifact."""
    text = inspection.dumps()
    return text if size(text) <= TERMINATION_MESSAGE_LIMIT else inspection.model_copy(update={"labels": ()}).dumps()


def shorten(text: str, length: int) -> str:
    """At most `length` characters."""
    return text if len(text) <= length else text[: length - len(_SHORTENED)] + _SHORTENED
