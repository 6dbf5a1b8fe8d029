"""What the console scripts call. They come with every installation, so that a missing extra is said in words."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Final

_EXTRA: Final = ("click", "rich", "yaml", "kubernetes")


def tapchanger() -> None:
    """`tapchanger`."""
    _app().run("tapchanger")


def kubectl() -> None:
    """`kubectl tapchanger`: kubectl runs `kubectl-tapchanger`."""
    _app().run("kubectl tapchanger")


def kubectl_complete() -> None:
    """`kubectl_complete-tapchanger`, which kubectl's own completion runs with the words after `kubectl tapchanger`."""
    _app().complete(sys.argv[1:])


def _app() -> ModuleType:
    try:
        from tapchanger_cli import app
    except ModuleNotFoundError as problem:
        if problem.name not in _EXTRA:
            raise
        sys.exit(f"error: the package {problem.name} is missing\n  install tapchanger with its extra: tapchanger[cli]")
    return app
