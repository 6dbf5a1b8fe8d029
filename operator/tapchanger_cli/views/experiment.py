"""The arms of an experiment: who gets which part of the users, and what is known of each."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from tapchanger_cli.views.parts import BAD, GOOD, QUIET, WAITING, table
from tapchanger_cli.words import percent
from tapchanger_operator.api.status import ArmStatus, TransformerDeploymentStatus

_COLUMNS = ("ARM", "REVISION", "WEIGHT", "READY", "REQUESTS", "FIGURE", "AGAINST CONTROL", "BEST", "MODEL")


def view(status: TransformerDeploymentStatus) -> Iterator[RenderableType]:
    """The arms in a table, then the verdict."""
    metric = status.experiment.metric if status.experiment else ""
    rows = [_row(arm, metric) for arm in status.arms]
    yield table(_COLUMNS, rows, right=("WEIGHT", "READY", "REQUESTS", "BEST"))
    for arm in status.arms:
        if arm.message:
            yield Text(f"{arm.name}: {arm.message}", style=BAD if arm.stalled else WAITING)
    if status.experiment:
        verdict = status.experiment.verdict
        style = {"Winner": GOOD, "Running": QUIET}.get(verdict, WAITING)
        yield Text.assemble(("Experiment  ", "bold"), (verdict, style), f" by {metric}: {status.experiment.message}")


def _row(arm: ArmStatus, metric: str) -> tuple[Text | str, ...]:
    figure = next((entry for entry in arm.figures if entry.metric == metric), None)
    seen, difference = "–", "–"
    if figure and figure.mean is not None:
        seen = f"{percent(figure.mean)} ({percent(figure.low)} to {percent(figure.high)})"
    if arm.difference:
        low, high = percent(arm.difference.low), percent(arm.difference.high)
        difference = f"{percent(arm.difference.estimate)} ({low} to {high})"
    ready = Text(f"{arm.ready}/{arm.replicas}", style="" if arm.ready >= arm.replicas else BAD)
    best = percent(arm.best) if arm.best is not None else "–"
    return (
        arm.name, arm.revision or "–", f"{arm.weight} %", ready, str(arm.requests), seen, difference, best, arm.uri,
    )  # fmt: skip
