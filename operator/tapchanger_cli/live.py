"""`status --watch`: a live view on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from tapchanger_cli.subject import Subject, read
from tapchanger_cli.waiting import Picture
from tapchanger_cli.words import clock as written
from tapchanger_operator.api.base import timestamp

_TICK_SECONDS: Final = 1.0

Draw = Callable[[list[Subject], float], RenderableType]


def on_terminal(pictures: Iterable[Picture], draw: Draw, console: Console, now: Callable[[], float]) -> None:
    """Draws the newest picture, and again each second since ages grow. Ends when the pictures do."""
    last: Picture | None = None
    with Live(console=console, auto_refresh=False) as live:
        for picture in _ticking(pictures):
            last = picture or last
            if last is None:
                continue
            view = draw([read(body) for body in last.objects], now())
            note = [Text(last.trouble, style="red")] if last.trouble else []
            live.update(Group(view, *note), refresh=True)


def as_lines(pictures: Iterable[Picture], now: Callable[[], float]) -> Iterator[str]:
    """A line for each deployment whose sentence changed, for each one that went, and for each trouble."""
    told: dict[tuple[str, str], str] = {}
    trouble = ""
    for picture in pictures:
        at = written(timestamp(now()))
        if picture.trouble:
            if picture.trouble != trouble:
                yield f"{at} {picture.trouble}"
            trouble = picture.trouble
            continue
        trouble = ""
        subjects = {(one.namespace, one.name): one for one in map(read, picture.objects)}
        for key, subject in subjects.items():
            if told.get(key) != subject.sentence:
                told[key] = subject.sentence
                yield f"{at} {'/'.join(key)} {subject.sentence}"
        for key in set(told) - set(subjects):
            del told[key]
            yield f"{at} {'/'.join(key)} was deleted"


def _ticking(pictures: Iterable[Picture]) -> Iterator[Picture | None]:
    """The pictures as they come, and None for each second without one. An error of theirs is raised here."""
    arrived: queue.Queue[Picture | Exception | None] = queue.Queue()

    def pump() -> None:
        try:
            for picture in pictures:
                arrived.put(picture)
            arrived.put(None)
        except Exception as problem:  # noqa: BLE001 - it is raised again below, where the user sees it
            arrived.put(problem)

    threading.Thread(target=pump, daemon=True).start()
    while True:
        try:
            found = arrived.get(timeout=_TICK_SECONDS)
        except queue.Empty:
            yield None
            continue
        if found is None:
            return
        if isinstance(found, Exception):
            raise found
        yield found
