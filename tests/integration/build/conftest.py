"""A build in empty folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapchanger_serving.build.places import Places
from tests.support.small_builds import Build


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """A build in empty folders."""
    for name in ("store", "claims", "work"):
        (tmp_path / name).mkdir()
    return Build(Places(tmp_path / "store", tmp_path / "claims", tmp_path / "work", tmp_path / "termination-log"))
