"""Shows what a build is doing: a bar for each step on a terminal, a line for each event elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from tapchanger_cli.words import number, printable

Line = dict[str, Any]

STEPS: Final = ("inspect", "fetch", "export", "distill", "measure")
_FIGURES: Final = (
    ("texts_per_second", "texts/s"),
    ("train_loss", "loss"),
    ("held_out_loss", "loss on held-out texts"),
    ("agreement", "agreement"),
    ("cosine", "cosine"),
)
_SUBJECTS: Final = ("candidate", "uri", "architecture", "runtime")


class Shown(Protocol):
    """What shows the events."""

    def hear(self, step: str, line: Line) -> None:
        """An event of a step."""
        ...

    def done(self, step: str) -> None:
        """A step has ended well."""
        ...


def told(line: Line) -> str:
    """An event in words: what, how many of how many, the figures that it brought, and how long it took. Pure."""
    line = printable(line)
    words = str(line.get("msg", ""))
    subject = next((str(line[name]) for name in _SUBJECTS if line.get(name)), "")
    if subject and line.get("precision"):
        subject = f"{subject} {line['precision']}"
    if line.get("batch") and line.get("tokens"):
        subject = f"{line['batch']} × {line['tokens']} tokens"
    if line.get("epoch") is not None:
        subject = f"in epoch {line['epoch']}"
    figures = [
        f"{_figure(line[name])} {unit}".strip() for name, unit in _FIGURES if isinstance(line.get(name), int | float)
    ]
    if isinstance(line.get("texts"), int):
        figures.append(f"{line['texts']} texts")
    trouble = next((str(line[name]) for name in ("failed", "error", "message") if line.get(name)), "")
    count = f"{line['number']} of {line['of']}" if line.get("of") else ""
    seconds = f"{line['seconds']:.1f} s" if isinstance(line.get("seconds"), int | float) else ""
    rest = ", ".join(part for part in (count, *figures, seconds) if part)
    words = f"{words} {subject}".rstrip() + (f" ({rest})" if rest else "")
    return f"{words}: {trouble}" if trouble else words


def _figure(value: float) -> str:
    return f"{value:.5g}" if value <= 1 else f"{value:,.0f}" if value >= 100 else number(value)


class Lines:
    """A line for each event, with the seconds since the start."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._began = clock()

    def hear(self, step: str, line: Line) -> None:
        """See :class:`Shown`."""
        self._write(f"{self._clock() - self._began:7.1f} s  {step:<8} {told(line)}")

    def done(self, step: str) -> None:
        """See :class:`Shown`."""
        self._write(f"{self._clock() - self._began:7.1f} s  {step:<8} done")


class Bars:
    """A bar for each step, and beside it what the step is at."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {
            step: progress.add_task(step, total=None, start=False, visible=False, what="") for step in STEPS
        }

    def hear(self, step: str, line: Line) -> None:
        """See :class:`Shown`."""
        self._begin(step)
        what = told(line)
        task = self._tasks[step]
        if line.get("of"):
            self._progress.update(task, total=float(line["of"]), completed=float(line["number"]) - 1.0)
        self._progress.update(task, what=what)
        if line.get("level") != "info":
            self._progress.console.print(Text(f"{step}: {what}", style="yellow"))

    def done(self, step: str) -> None:
        """See :class:`Shown`."""
        self._begin(step)
        self._progress.update(self._tasks[step], total=1.0, completed=1.0, what="done")
        self._progress.stop_task(self._tasks[step])

    def _begin(self, step: str) -> None:
        if not self._progress.tasks[self._tasks[step]].started:
            self._progress.start_task(self._tasks[step])
            self._progress.update(self._tasks[step], visible=True)


@contextlib.contextmanager
def shown(console: Console) -> Iterator[Shown]:
    """Bars where `console` is a terminal, else lines."""
    if not console.is_terminal:
        yield Lines(lambda text: console.print(text, markup=False, soft_wrap=True))
        return
    columns = (
        SpinnerColumn(finished_text="✔"),
        TextColumn("{task.description:<8}", markup=False),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.fields[what]}", markup=False),
    )
    with Progress(*columns, console=console, expand=False) as progress:
        yield Bars(progress)
