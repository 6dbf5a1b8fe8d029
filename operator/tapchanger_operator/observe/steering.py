"""What people ask of a rollout, and who they are, from an object's annotations and its record of who wrote which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tapchanger_operator.api import controls
from tapchanger_operator.snapshot import Given, Steering


def steering(body: Mapping[str, Any]) -> Steering:
    """The orders in the annotations of `body`."""
    annotations: Mapping[str, str] = body["metadata"].get("annotations") or {}
    orders = {
        order: Given(value, _who(body, controls.annotation(order)))
        for order, value in controls.given(annotations).items()
    }
    pause = annotations.get(controls.PAUSE)
    retraining = {
        order: Given(annotations[name], _who(body, name))
        for order in controls.RETRAINING_ORDERS
        if (name := controls.annotation(order)) in annotations
    }
    return Steering(None if pause is None else Given(pause, _who(body, controls.PAUSE)), orders, retraining)


def _who(body: Mapping[str, Any], annotation: str) -> str:
    """Who set `annotation`: the name beside it where no program wrote it, or the one that wrote the order; else that program.

    A name without a writer comes from the API server's admission, which keeps it up to date. One that another program left
    with an earlier order must not be taken for that of a later one.
    """
    name = annotation + controls.BY_SUFFIX
    writers, namers = _writers(body, annotation), _writers(body, name)
    annotations: Mapping[str, str] = body["metadata"].get("annotations") or {}
    if name in annotations and namers in (frozenset(), writers):
        return annotations[name]
    return ", ".join(sorted(manager for manager, _ in writers))


def _writers(body: Mapping[str, Any], annotation: str) -> frozenset[tuple[str, str]]:
    """(manager, operation) of each that owns `annotation`, as `metadata.managedFields` has it."""
    found = set()
    for entry in body["metadata"].get("managedFields") or []:
        fields = entry.get("fieldsV1", {}).get("f:metadata", {}).get("f:annotations", {})
        if f"f:{annotation}" in fields:
            found.add((entry.get("manager", ""), entry.get("operation", "")))
    return frozenset(found)
