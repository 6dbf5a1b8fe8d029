"""What the demonstration tells while it runs."""

from __future__ import annotations

import pytest

from dev.demo.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_phase_is_announced_and_timed(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = Progress(clock, began=100.0)
    with progress.phase("install", "the Helm chart"):
        clock.now += 12.34
    assert progress.seconds == {"install": 12.3}
    assert capsys.readouterr().out.splitlines() == [
        "[   0.0s] install: the Helm chart",
        "[  12.3s]   install took 12.3 s",
    ]


def test_a_phase_that_fails_has_no_time() -> None:
    progress = Progress(Clock(), began=100.0)
    with pytest.raises(ValueError, match="broken"), progress.phase("install", "the Helm chart"):
        raise ValueError("broken")
    assert progress.seconds == {}
