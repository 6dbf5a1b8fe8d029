from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapchanger_serving.contract.outcome import Outcome
from tapchanger_serving.observer import snapshot
from tapchanger_serving.observer.breakdown import Breakdown, Stage, Sums
from tapchanger_serving.observer.bucket import Request
from tapchanger_serving.observer.main import load
from tapchanger_serving.observer.settings import Settings
from tapchanger_serving.observer.windows import Key, Windows

START = 1_700_000_000


@st.composite
def any_windows(draw: st.DrawFn) -> Windows:
    windows = Windows()
    windows.watch("default", "moderation", (0.05,))
    for _ in range(draw(st.integers(min_value=0, max_value=20))):
        key = Key("default", draw(st.sampled_from(["moderation", 'quo"ted'])), draw(st.sampled_from(["r1", "r2"])))
        end = START + draw(st.integers(min_value=0, max_value=9_000_000)) / 1000
        failed = draw(st.booleans())
        seconds = draw(st.floats(min_value=1e-4, max_value=10))
        windows.add(key, Request(end, seconds, Outcome("grpc/13" if failed else "grpc/0", failed), b"t" * 16))
        windows.add_score(key, end, draw(st.floats(min_value=0, max_value=1)))
        if draw(st.booleans()):
            tokens, node = draw(st.integers(min_value=0, max_value=600)), draw(st.sampled_from(["", "a", "b"]))
            stage = Stage(end, seconds / 3, seconds / 2, seconds / 8, tokens=tokens, rows=tokens % 7, node=node)
            windows.add_stage(key, stage)
            if draw(st.booleans()):
                windows.join(key, stage, seconds, failed=failed)
    if draw(st.booleans()):
        windows.tidy(START + 9_000)
    return windows


def same(one: Windows, other: Windows) -> bool:
    """Equal but for what is counted since the start only."""

    def facts(windows: Windows) -> object:
        return [
            (name, entry.thresholds, [(rev, series.minutes, series.scores) for rev, series in entry.revisions.items()])
            for name, entry in windows.deployments.items()
        ]

    for windows in (one, other):
        for _, series in windows.series():
            for minute in series.minutes.values():
                minute.merged = minute.encoded = None
    return facts(one) == facts(other)


@given(any_windows())
def test_a_snapshot_brings_back_all_that_was_saved(windows: Windows) -> None:
    restored = Windows()
    snapshot.decode("".join(snapshot.encode(windows)), restored)
    assert same(restored, windows)


@given(any_windows())
def test_what_is_written_after_a_snapshot_is_in_the_next(windows: Windows) -> None:
    snapshot.encode(windows)
    windows.add(Key("default", "moderation", "r1"), Request(START, 0.1, Outcome("grpc/0", failed=False), b"x" * 16))
    restored = Windows()
    snapshot.decode("".join(snapshot.encode(windows)), restored)
    assert same(restored, windows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a snapshot"),
        ("[]", "not a snapshot"),
        ("{}", "not a snapshot"),
        ('{"version": 3, "deployments": []}', "version 3, expected 2"),
        ('{"version": 2}', "not a snapshot of version 2"),
        ('{"version": 1, "deployments": [{"namespace": "a"}]}', "not a snapshot of version 1"),
    ],
)
def test_what_is_no_snapshot_is_refused(text: str, message: str) -> None:
    with pytest.raises(snapshot.SnapshotError, match=message):
        snapshot.decode(text, Windows())


@given(any_windows(), st.data())
def test_a_snapshot_with_a_hole_is_refused_or_harmless(windows: Windows, data: st.DataObject) -> None:
    text = "".join(snapshot.encode(windows))
    cut = data.draw(st.integers(min_value=0, max_value=len(text) - 1))
    with pytest.raises(snapshot.SnapshotError):
        snapshot.decode(text[:cut], Windows())


def test_a_corrupt_file_is_set_aside_and_the_start_is_empty(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "windows.json"
    path.write_text('{"version": 1, "deployments": [{"name', encoding="utf-8")
    windows = load(Settings(state=path), lambda: float(START))
    assert not windows.deployments
    assert "starting empty" in caplog.text
    assert not path.exists()
    assert (tmp_path / "windows.json.corrupt").exists()


def test_a_saved_file_is_loaded_and_what_is_too_old_is_not(tmp_path: Path) -> None:
    windows = Windows()
    for end in (START, START + 20_000):
        windows.add(Key("a", "b", "r1"), Request(end, 0.1, Outcome("grpc/0", failed=False), b"x" * 16))
    path = tmp_path / "windows.json"
    snapshot.write(snapshot.encode(windows), path)
    loaded = load(Settings(state=path), lambda: START + 20_001.0)
    assert loaded.window("a", "b", 0, START + 30_000)["r1"].requests == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["windows.json"]


def test_a_first_start_finds_no_file(tmp_path: Path) -> None:
    assert not load(Settings(state=tmp_path / "none.json"), lambda: float(START)).deployments


def test_the_encoding_is_the_documented_one() -> None:
    windows = Windows()
    windows.watch("a", "b", (0.05,))
    windows.add(Key("a", "b", "r1"), Request(START + 0.5, 0.1, Outcome("grpc/13", failed=True), b"x" * 16))
    state = json.loads("".join(snapshot.encode(windows)))
    assert state["version"] == 2
    assert state["deployments"][0]["thresholds"] == [0.05]
    minute = state["deployments"][0]["revisions"][0]["minutes"][0]
    assert (minute["start"], minute["step"], minute["buckets"][0][:3]) == (START - START % 60, 1, [START, 1, 1])


def test_what_the_first_version_saved_is_read() -> None:
    rows = [
        [START, 1, 1, [], [[-114, 1]], {"grpc/13": 1}, [], [], START + 0.5, START + 0.5, START + 0.5, 0.01, 0.03, 2],
        [START + 1, 1, 0, [[-114, 1]], [], {}, [], [], START + 1, START + 1, None, 0.0, 0.0, 0],
    ]
    minute = {"start": START - START % 60, "step": 1, "buckets": rows}
    deployment = {"namespace": "a", "deployment": "b", "thresholds": [0.05]}
    deployment["revisions"] = [{"revision": "r1", "minutes": [minute]}]  # type: ignore[assignment]
    windows = Windows()
    snapshot.decode(json.dumps({"version": 1, "deployments": [deployment]}), windows)
    found = windows.window("a", "b", 0, START + 10)["r1"]
    assert (found.requests, found.unavailable) == (2, 1)
    assert found.parts == Breakdown(Sums(spans=2, queue=0.01, compute=0.03))
