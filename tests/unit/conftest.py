"""Property tests have no deadlines: how long one example takes says more of the machine than of the code."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("here", deadline=None)
settings.load_profile("here")


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """What a build's step does to all of Python's logging ends with the test that ran it."""
    yield
    logging.disable(logging.NOTSET)
