"""Folders for what is needed for a moment."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for downloads that goes away afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="tapchanger-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
