"""Collecting: what is referred to or young stays, the rest goes, and two collectors or a build at work do no harm."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tapchanger_serving.build import __main__ as command
from tapchanger_serving.build import collect
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.stores import volume
from tapchanger_serving.build.stores.volume import Volume
from tapchanger_serving.contract.artifact import Artifact
from tapchanger_serving.contract.messages import BuildReport, Collection, Hardware
from tapchanger_serving.contract.names import ENV_COLLECTION

DAY = 86400.0
WEEK = Collection(older_than_seconds=7 * DAY)


def artifact(places: Places, content: bytes) -> str:
    """Stores an artifact of one file."""
    file = places.work / "engine"
    file.write_bytes(content)
    manifest = Artifact(
        task="text-classification", runtime="onnxruntime", precision="fp32", engine="model.onnx", inputs=(),
        output="logits", dimensions=2, max_tokens=8, max_batch_size=1, hardware=Hardware(arch="amd64"), files=(),
    )  # fmt: skip
    return Volume(places).write_artifact({"model.onnx": file}, manifest)[0]


def report(places: Places, name: str, digest: str) -> Path:
    """Stores a report."""
    Volume(places).write_report(name, BuildReport(
        artifact=digest, size_bytes=1, runtime="onnxruntime", precision="fp32", why="", speedup=1,
        torch_texts_per_second=1, candidates=(), gates=(), surface=(), compared_texts=0, seconds=1,
    ), "<p>page</p>", "# card")  # fmt: skip
    return places.report(name)


def aged(path: Path, days: float) -> Path:
    """Makes a thing and what is in it look `days` old."""
    then = time.time() - days * DAY
    for each in [*path.rglob("*"), path]:
        os.utime(each, (then, then))
    return path


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_what_nobody_refers_to_goes_when_it_is_old(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    digest = artifact(places, b"old")
    folder = aged(Volume(places).artifact_folder(digest), 8)
    paper = aged(report(places, "eb-old", digest), 8)
    (places.store / "models" / "sha256-0").mkdir(parents=True)
    aged(places.store / "models" / "sha256-0", 8)
    collect.collect(WEEK, places)
    assert not folder.exists()
    assert not paper.exists()
    assert not list((places.store / "models").iterdir())
    said = lines(capsys)
    removed = {(line["path"], line["kind"]) for line in said if line["msg"] == "removed"}
    assert removed == {
        ("reports/eb-old.json", "report"),
        (f"artifacts/{digest.replace(':', '-')}", "artifact"),
        ("models/sha256-0", "download"),
    }
    assert all(line["why"] and line["age_hours"] for line in said if line["msg"] == "removed")
    assert said[-1]["removed"] == 3


def test_a_reference_keeps_whatever_the_age(places: Places) -> None:
    digest = artifact(places, b"kept")
    folder, paper = (
        aged(Volume(places).artifact_folder(digest), 400),
        aged(report(places, "eb-kept", digest), 400),
    )
    page = paper.with_suffix(".html")
    page.write_text("")
    aged(page, 400)
    order = Collection(builds=("eb-kept",), artifacts=(digest,), models=("sha256:0",), older_than_seconds=0)
    collect.collect(order, places)
    assert volume.valid_artifact(folder, digest)
    assert paper.is_file()
    assert page.is_file()


def test_what_is_young_stays(places: Places) -> None:
    folder = Volume(places).artifact_folder(artifact(places, b"young"))
    aged(folder, 6.9)
    collect.collect(WEEK, places)
    assert folder.is_dir()


def test_a_file_that_is_still_written_keeps_its_folder(places: Places) -> None:
    folder = aged(Volume(places).artifact_folder(artifact(places, b"x")), 30)
    then = time.time() - 30 * DAY
    (folder / "model.onnx").write_bytes(b"now")
    os.utime(folder, (then, then))
    collect.collect(WEEK, places)
    assert folder.is_dir()


def test_a_dry_run_only_tells(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    folder = aged(Volume(places).artifact_folder(artifact(places, b"old")), 8)
    collect.collect(WEEK.model_copy(update={"dry_run": True}), places)
    assert folder.is_dir()
    assert [line["msg"] for line in lines(capsys)] == ["would remove", "collected"]


def test_a_build_that_is_used_again_becomes_young(places: Places) -> None:
    digest = artifact(places, b"old")
    aged(report(places, "eb-1", digest), 30)
    folder = aged(Volume(places).artifact_folder(digest), 30)
    assert Volume(places).finished("eb-1") is not None
    collect.collect(WEEK, places)
    assert volume.valid_artifact(folder, digest)
    assert Volume(places).finished("eb-1") is not None


def test_a_build_that_begins_to_use_it_meanwhile_gets_it_back(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = artifact(places, b"old")
    folder = aged(Volume(places).artifact_folder(digest), 30)
    rename = Path.rename

    def used_just_before(path: Path, target: Path) -> Path:
        if path == folder:
            os.utime(folder)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", used_just_before)
    collect.collect(WEEK, places)
    assert volume.valid_artifact(folder, digest)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_another_collector_that_was_faster_is_no_failure(
    places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = aged(Volume(places).artifact_folder(artifact(places, b"old")), 30)
    rename = Path.rename

    def taken_just_before(path: Path, target: Path) -> Path:
        if path == folder:
            rename(folder, places.work / "theirs")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", taken_just_before)
    collect.collect(WEEK, places)
    assert lines(capsys)[-1]["removed"] == 0
    assert not list(folder.parent.iterdir())


def test_leftovers_go_after_a_day_whatever_is_kept(places: Places) -> None:
    rooms = [places.store / room for room in ("artifacts", "reports", "models", "timings")]
    for room in rooms:
        (room / ".incoming-old").mkdir(parents=True)
        (room / ".incoming-old" / "half").write_bytes(b"x")
        (room / ".incoming-new").mkdir()
        aged(room / ".incoming-old", 1.1)
    collect.sweep(places)
    assert [path.name for room in rooms for path in room.iterdir()] == [".incoming-new"] * 4


def test_an_empty_store_is_nothing_to_do(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    collect.collect(WEEK, places)
    assert [line["msg"] for line in lines(capsys)] == ["collected"]


def test_the_step_reads_its_order_from_the_environment(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = aged(Volume(places).artifact_folder(artifact(places, b"old")), 8)
    for name in ("store", "work"):
        monkeypatch.setenv(f"TAPCHANGER_{name.upper()}_DIR", str(getattr(places, name)))
    monkeypatch.setenv("TAPCHANGER_TERMINATION_LOG", str(places.termination_log))
    monkeypatch.setenv(ENV_COLLECTION, WEEK.dumps())
    assert command.main(["collect"]) == 0
    assert not folder.exists()
