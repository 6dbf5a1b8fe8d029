"""What the command draws, against tests/golden/cli. `UPDATE_GOLDEN=1 pytest tests/unit/cli` rewrites it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pytest
from rich.console import Console, RenderableType

from tapchanger_cli import builds, documents
from tapchanger_cli.subject import Subject, read
from tapchanger_cli.views import evidence, explanation, lists, overview
from tests.support import cli_samples as samples
from tests.support import golden

FOLDER = golden.GOLDEN / "cli"
SUBJECTS = {name: read(make()) for name, make in samples.ALL.items()}
BUILD, FAILED = builds.read(samples.build()), builds.read(samples.failed_build())


def drawn(view: RenderableType, width: int = 160) -> str:
    """As a terminal without colours shows it, without the blanks at the ends of lines."""
    file = io.StringIO()
    Console(file=file, width=width, color_system=None, highlight=False).print(view)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def dumped(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _explained(subject: Subject) -> str:
    build = FAILED if subject.status.stable is None else BUILD
    return drawn(explanation.view(subject, build if subject.status.target else None, "tapchanger"))


CASES: dict[str, Callable[[], str]] = {
    **{f"status.{name}.txt": lambda one=one: drawn(overview.view(one, samples.NOW)) for name, one in SUBJECTS.items()},
    **{f"explain.{name}.txt": lambda one=one: _explained(one) for name, one in SUBJECTS.items()},
    "status.stepping.narrow.txt": lambda: drawn(overview.view(SUBJECTS["stepping"], samples.NOW), 80),
    "history.txt": lambda: drawn(lists.history(SUBJECTS["stepping"], samples.NOW)),
    "all.txt": lambda: drawn(lists.everything(list(SUBJECTS.values()), samples.NOW, namespaces=True)),
    "status.json": lambda: dumped(documents.status(SUBJECTS["held"])),
    "history.json": lambda: dumped(documents.history(SUBJECTS["stepping"])),
    "explain.json": lambda: dumped(documents.explain(SUBJECTS["rolled-back"], BUILD, "kubectl tapchanger")),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_drawn_is_the_golden_text(case: str) -> None:
    golden.compare(FOLDER / case, CASES[case]())


def test_no_golden_file_is_left_that_nothing_draws() -> None:
    golden.no_stale(FOLDER, CASES)


@pytest.mark.parametrize(("e_value", "cells"), [(0.0, 0), (1.0, 0), (14.2, 4), (199.9, 7), (200.0, 8), (1e12, 8)])
def test_the_bar_is_full_exactly_where_the_evidence_suffices(e_value: float, cells: int) -> None:
    entry = SUBJECTS["stepping"].status.analysis.evidence[0].model_copy(update={"e_value": e_value})
    assert evidence.bar(entry).plain == "█" * cells + "░" * (8 - cells)


@pytest.mark.parametrize("case", ["status.stepping.txt", "history.txt"])
def test_the_manual_shows_what_is_drawn(case: str) -> None:
    assert CASES[case]() in (golden.ROOT / "docs" / "cli.md").read_text()
