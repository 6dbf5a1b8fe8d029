"""Each image holds every module of ours that what it runs imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = {"tapchanger_serving": ROOT / "serving", "tapchanger_operator": ROOT / "operator"}
_COPY = re.compile(r"^COPY (?!--from)(?P<sources>.+) (?P<target>/opt/tapchanger/\S*)$")


def copied() -> dict[str, set[str]]:
    """Stage of the Dockerfile → our Python files that it copies, as module names."""
    found: dict[str, set[str]] = {}
    stage = ""
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("FROM "):
            stage = line.rsplit(" AS ", 1)[-1]
        match = _COPY.match(line)
        for source in match["sources"].split() if match else ():
            path = ROOT / source
            files = [path] if path.is_file() else sorted(path.rglob("*.py"))
            found.setdefault(stage, set()).update(module(file) for file in files if file.suffix == ".py")
    return found


def module(file: Path) -> str:
    root = next(root for root in PACKAGES.values() if file.is_relative_to(root))
    return ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def file_of(name: str) -> Path | None:
    base = PACKAGES[name.split(".")[0]].joinpath(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def imports(name: str) -> Iterator[str]:
    """Modules of ours that a module imports, wherever in it."""
    file = file_of(name)
    for node in ast.walk(ast.parse(file.read_text())) if file else ():
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (n for n in names if n.split(".")[0] in PACKAGES and file_of(n))


STAGES = copied()


def test_the_images_with_code_of_ours_are_found() -> None:
    assert set(STAGES) == {"operator", "observer", "builder", "server", "capture"}


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_that_is_imported_is_left_out(stage: str) -> None:
    held = STAGES[stage]
    missing = {(name, wanted) for name in held for wanted in imports(name) if wanted not in held}
    assert not missing
