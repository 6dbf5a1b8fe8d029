"""What `-o json` and `-o yaml` print: a stable shape, described in docs/cli.md. Fields are added, never renamed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tapchanger_cli.advice import advise
from tapchanger_cli.builds import Build
from tapchanger_cli.subject import Subject
from tapchanger_operator.api.base import StatusModel
from tapchanger_operator.api.status import ArmStatus

Document = dict[str, Any]


def status(subject: Subject) -> Document:
    """One deployment: who serves, how far the rollout is, and the last verdict."""
    state, hold = subject.status, None
    if subject.hold is not None:
        hold = {"reason": subject.hold, "by": subject.hold_by, "effective": subject.hold_shown}
    return {
        **_identity(subject),
        "ready": subject.ready,
        "message": subject.sentence,
        "upToDate": not subject.outdated,
        "model": subject.policy.uri,
        "steps": steps(subject),
        "hold": hold,
        "revisions": revisions(subject),
        "canary": _wire(state.canary),
        "analysis": analysis(subject),
        "slo": _wire(state.slo),
        "drift": _wire(state.drift and state.drift.model_copy(update={"state": {}})),
        **({"quality": _wire(state.quality)} if state.quality else {}),
        **({"capture": _wire(state.capture)} if state.capture else {}),
        "endpoints": _wire(state.endpoints),
        "arms": [arm(entry) for entry in state.arms],
        "experiment": _wire(state.experiment),
        "retraining": _wire(state.retraining),
        "orders": [_wire(answer) for answer in state.controls],
    }


def statuses(subjects: Sequence[Subject]) -> Document:
    """All deployments."""
    return {"items": [status(subject) for subject in subjects]}


def steps(subject: Subject) -> list[Document]:
    """Each step with its weight in percent and its state: `done`, `current` or `next`."""
    canary = subject.status.canary
    result = []
    for index, weight in enumerate(subject.policy.weights):
        if canary is None:
            state = "done" if subject.ready == "True" else "next"
        else:
            state = "done" if index < canary.step else "current" if index == canary.step else "next"
        result.append({"step": index + 1, "weight": weight, "state": state})
    return result


def revisions(subject: Subject) -> list[Document]:
    """Every revision that has servers, by role."""
    state = subject.status
    known = [("stable", state.stable), ("canary", state.canary), ("previous", state.previous)]
    known += [("retiring", entry) for entry in state.retiring]
    fields = ("revision", "build", "uri", "weight", "replicas", "ready", "since", "until")
    return [
        {"role": role, **{field: getattr(entry, field) for field in fields if hasattr(entry, field)}}
        for role, entry in known
        if entry is not None
    ]


def arm(entry: ArmStatus) -> Document:
    """One arm of an experiment, without what was found in its checkpoint."""
    return {key: value for key, value in entry.wire().items() if key != "model"}


def analysis(subject: Subject) -> Document | None:
    """The last verdict with its evidence, without the test's memory."""
    found = subject.status.analysis
    if found is None:
        return None
    return {key: value for key, value in found.wire().items() if key != "state"}


def history(subject: Subject) -> Document:
    """The changes of who serves, the newest last."""
    return {**_identity(subject), "items": [entry.wire() for entry in subject.status.history]}


def explain(subject: Subject, build: Build | None, program: str) -> Document:
    """Everything that explains the state, and what can be done."""
    return {
        **_identity(subject),
        "ready": subject.ready,
        "message": subject.sentence,
        "conditions": [found.wire() for found in subject.status.conditions],
        "analysis": analysis(subject),
        "rejected": [entry.wire() for entry in subject.status.rejected],
        "build": build.document() if build else None,
        "next": [{"command": advice.command, "effect": advice.effect} for advice in advise(subject, program)],
    }


def order(subject: Subject, name: str, value: str, by: str | None, done: bool | None, message: str) -> Document:
    """An order and its answer; `done` is null where none was waited for."""
    return {**_identity(subject), "order": name, "value": value, "by": by or "", "done": done, "message": message}


def _identity(subject: Subject) -> Document:
    return {"namespace": subject.namespace, "name": subject.name}


def _wire(model: StatusModel | None) -> Document | None:
    return model.wire() if model else None
