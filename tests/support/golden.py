"""Golden files: what is rendered must be what is stored. `UPDATE_GOLDEN=1 pytest …` rewrites them and removes stale ones."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"


def updating() -> bool:
    """Whether the stored files are to be rewritten."""
    return bool(os.environ.get("UPDATE_GOLDEN"))


def dumped(*documents: Any) -> str:
    """YAML with sorted keys and without aliases, one document for each value."""

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    return yaml.dump_all(documents, Dumper=Plain, sort_keys=True, width=120, allow_unicode=True)


def compare(path: Path, found: str) -> None:
    """Fails where `found` is not the text of the golden file `path`."""
    if updating():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(found)
    assert path.exists(), f"{path} is missing; write it with UPDATE_GOLDEN=1"
    assert found == path.read_text(), f"{path} is stale; if the change is wanted, run with UPDATE_GOLDEN=1"


def no_stale(folder: Path, rendered: Iterable[str]) -> None:
    """Fails where `folder` holds a file that is not in `rendered` (names relative to it)."""
    stale = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - set(rendered)
    if updating():
        for name in stale:
            (folder / name).unlink()
        return
    assert not stale, f"nothing renders {sorted(stale)} in {folder}; remove them, or run with UPDATE_GOLDEN=1"
