"""The processes of Triton's Python models, as /proc lists them."""

from __future__ import annotations

from pathlib import Path

STUB = "triton_python_backend_stub"[:15]
"""The kernel keeps 15 characters of a process's name."""
_PROC = Path("/proc")


def stubs(parent: int, proc: Path = _PROC) -> frozenset[int]:
    """Ids of the live children of `parent` that run a Python model; one that has died but is still listed is none."""
    found = set()
    for folder in proc.iterdir():
        if folder.name.isdigit() and _is_live_stub(folder, parent):
            found.add(int(folder.name))
    return frozenset(found)


def _is_live_stub(folder: Path, parent: int) -> bool:
    try:
        stat = (folder / "stat").read_text()
    except OSError:
        return False
    # The name stands in parentheses and may itself hold spaces; state and parent follow (proc(5)).
    name, _, rest = stat.partition("(")[2].rpartition(")")
    state, parent_id = rest.split()[:2]
    return name == STUB and int(parent_id) == parent and state not in "ZX"
