"""What people are told of polls: new content, and the first of several failures in a row."""

from __future__ import annotations

from tapchanger_operator.api import reasons
from tapchanger_operator.api.status import ModelStatus
from tapchanger_operator.decide.state import Change


def changes(before: ModelStatus | None, after: ModelStatus | None) -> tuple[Change, ...]:
    """Events about the polling of a model's address, given what status said before and says now."""
    if before is None or after is None or before.poll is None or after.poll is None or before.key != after.key:
        return ()
    if after.digest != before.digest:
        message = f"{after.uri} has new content: {after.digest}, after {before.digest}"
        return (Change("Normal", reasons.MODEL_CHANGED, message),)
    if after.poll.problem and not before.poll.problem:
        message = f"{after.uri} could not be asked for new content: {after.poll.problem}; it is asked again"
        return (Change("Warning", reasons.POLL_FAILED, message),)
    return ()
