"""What people are told of polls: new content, and the first of several failures in a row."""

from __future__ import annotations

from collections.abc import Iterator

from tapchanger_operator.api import reasons
from tapchanger_operator.api.status import ModelStatus, TransformerDeploymentStatus
from tapchanger_operator.decide.state import Change


def changes(before: TransformerDeploymentStatus, after: TransformerDeploymentStatus) -> tuple[Change, ...]:
    """Events about the polling of the addresses of the base spec and its variants, given what status said before and says now.

    What several arms have in common is told once.
    """
    known = {model.key: model for model in _models(before)}
    found = {model.key: model for model in _models(after)}
    return tuple(change for key, model in found.items() for change in _changes(known.get(key), model))


def _models(status: TransformerDeploymentStatus) -> Iterator[ModelStatus]:
    """The base spec's comes last: where an arm has the same, it is the newer one."""
    models = (*(arm.model for arm in status.arms), status.model)
    return (model for model in models if model is not None)


def _changes(before: ModelStatus | None, after: ModelStatus) -> tuple[Change, ...]:
    if before is None or before.poll is None or after.poll is None:
        return ()
    if after.digest != before.digest:
        message = f"{after.uri} has new content: {after.digest}, after {before.digest}"
        return (Change("Normal", reasons.MODEL_CHANGED, message),)
    if after.poll.problem and not before.poll.problem:
        message = f"{after.uri} could not be asked for new content: {after.poll.problem}; it is asked again"
        return (Change("Warning", reasons.POLL_FAILED, message),)
    return ()
