"""Property tests have no deadlines: how long one example takes says more of the machine than of the code."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("here", deadline=None)
settings.load_profile("here")
