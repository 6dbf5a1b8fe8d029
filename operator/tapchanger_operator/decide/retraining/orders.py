"""What people, and services that train elsewhere, say about retraining by annotations: each once, each with an answer."""

from __future__ import annotations

import re
from typing import Final, Literal

from tapchanger_operator.api.base import timestamp
from tapchanger_operator.api.retraining import RetrainingAnswer, RetrainingSpec, RetrainingStatus, RunStatus
from tapchanger_operator.decide.retraining.moves import Scene, begin, ended
from tapchanger_operator.decide.retraining.progress import trained
from tapchanger_operator.decide.retraining.start import busy
from tapchanger_operator.snapshot import Given

_DONE: Final = re.compile(r"(?P<run>r[0-9a-f]{9})\s+(?P<outcome>succeeded|failed)(?:\s+(?P<why>.*))?", re.DOTALL)
_LONGEST: Final = 500


class RefusedError(Exception):
    """An order that can't be carried out, and why."""


def carry_out(
    spec: RetrainingSpec | None, status: RetrainingStatus, scene: Scene
) -> tuple[RetrainingStatus, tuple[RetrainingAnswer, ...]]:
    """The status after the orders that are new, and the answers to these. One whose annotation is gone is forgotten."""
    known = {answer.order: answer for answer in status.answers}
    kept: list[RetrainingAnswer] = []
    fresh: list[RetrainingAnswer] = []
    orders: tuple[Literal["retrain", "retrained"], ...] = ("retrained", "retrain")
    for order in orders:
        given = scene.snapshot.steering.retraining.get(order)
        if given is None:
            continue
        if order in known and known[order].value == given.value:
            kept.append(known[order])
            continue
        try:
            run = _retrain(spec, status, scene, given) if order == "retrain" else _retrained(status, scene, given)
            status, done, message = status.model_copy(update={"run": run}), True, _said(run)
        except RefusedError as problem:
            done, message = False, str(problem)
        at = timestamp(scene.now)
        fresh.append(RetrainingAnswer(order=order, value=given.value, by=given.by, at=at, done=done, message=message))
    return status.model_copy(update={"answers": [*kept, *fresh]}), tuple(fresh)


def _said(run: RunStatus) -> str:
    return f"run {run.name} starts" if run.phase == "Starting" else f"run {run.name}: {run.message}"


def _retrain(spec: RetrainingSpec | None, status: RetrainingStatus, scene: Scene, given: Given) -> RunStatus:
    """Neither the least time between runs nor a wait after failures keeps a person from it."""
    if spec is None:
        raise RefusedError("there is nothing that trains: write spec.retraining with a job or a webhook")
    if status.run:
        raise RefusedError(f"run {status.run.name} is under way ({status.run.phase}); there is one at a time")
    if held := busy(scene):
        raise RefusedError(f"not now: {held}")
    run = begin(scene, "Manual", given.value.strip()[:_LONGEST], given.by)
    if run is None:
        raise RefusedError("not now: nothing serves yet")
    return run


def _retrained(status: RetrainingStatus, scene: Scene, given: Given) -> RunStatus:
    match = _DONE.fullmatch(given.value.strip())
    if match is None:
        raise RefusedError(f"tapchanger.dev/retrained is {given.value[:100]!r}; write RUN succeeded|failed [reason]")
    run = status.run
    if run is None or run.name != match["run"] or run.phase != "Waiting":
        there = f"run {run.name} is {run.phase}" if run else "no run is under way"
        raise RefusedError(f"{match['run']} does not wait for a word: {there}")
    why = (match["why"] or "").strip()[:_LONGEST]
    if match["outcome"] == "failed":
        return ended(run, "Failed", why or "the service says that training failed")
    return trained(run, scene.now, why or "the service says that training ended; the address is asked")
