"""Waiting for a CPU is told as a share of the time in which one was wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapchanger_serving.build.waited import Scheduled


def tasks(folder: Path, **threads: str) -> Path:
    for name, figures in threads.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "schedstat").write_text(figures)
    return folder


def test_threads_add_up(tmp_path: Path) -> None:
    assert Scheduled.now(tasks(tmp_path, a="100 20 3\n", b="50 5 1\n")) == Scheduled(150, 25)


def test_the_share_is_that_of_the_time_between() -> None:
    before, after = Scheduled(100, 50), Scheduled(400, 150)
    assert after.share_since(before) == pytest.approx(0.25)
    assert before.share_since(before) is None


def test_a_thread_that_ended_meanwhile_makes_no_negative_share() -> None:
    assert Scheduled(200, 10).share_since(Scheduled(100, 50)) == 0.0


def test_a_kernel_without_the_figures_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    assert Scheduled.now(tmp_path) is None
