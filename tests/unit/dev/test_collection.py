"""Every folder with tests is one that pytest looks into: by default it passes over those called build."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]


def test_no_folder_of_tests_is_passed_over(pytestconfig: pytest.Config) -> None:
    patterns = pytestconfig.getini("norecursedirs")
    folders = {folder for file in TESTS.rglob("test_*.py") for folder in file.relative_to(TESTS).parents}
    names = {part for folder in folders for part in folder.parts}
    assert {"unit", "integration", "e2e", "build"} <= names
    assert not [name for name in names for pattern in patterns if fnmatch(name, pattern)]
