"""The store: nothing half-written is ever seen, nothing valid is written twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tapchanger_serving.build import cache
from tapchanger_serving.build.checkpoint import read_checkpoint
from tapchanger_serving.build.digest import hash_tree
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.stores import volume
from tapchanger_serving.build.stores.volume import Volume
from tapchanger_serving.contract.artifact import Artifact
from tapchanger_serving.contract.messages import BuildReport, Hardware

MANIFEST = Artifact(
    task="text-classification",
    runtime="onnxruntime",
    precision="fp32",
    engine="model.onnx",
    inputs=("input_ids",),
    output="logits",
    dimensions=2,
    max_tokens=64,
    max_batch_size=8,
    hardware=Hardware(arch="amd64"),
    files=(),
)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "engine.bin").write_bytes(b"engine")
    (tmp_path / "tokenizer.bin").write_bytes(b"tokenizer")
    return {"model.onnx": tmp_path / "engine.bin", "tokenizer.json": tmp_path / "tokenizer.bin"}


def report(artifact: str) -> BuildReport:
    return BuildReport(
        artifact=artifact, size_bytes=1, runtime="onnxruntime", precision="fp32", why="", speedup=1.0,
        torch_texts_per_second=1.0, candidates=(), gates=(), surface=(), compared_texts=0, seconds=1.0,
    )  # fmt: skip


def test_an_artifact_is_named_by_its_manifest_and_lists_its_files(places: Places, files: dict[str, Path]) -> None:
    digest, size = Volume(places).write_artifact(files, MANIFEST)
    folder = places.store / "artifacts" / digest.replace(":", "-")
    text = (folder / "artifact.json").read_bytes()
    assert digest == f"sha256:{hashlib.sha256(text).hexdigest()}"
    listed = {entry.path: entry.sha256 for entry in Artifact.model_validate_json(text).files}
    assert listed["model.onnx"] == hashlib.sha256(b"engine").hexdigest()
    assert set(listed) == {"model.onnx", "tokenizer.json"}
    assert size == len(text) + len(b"engine") + len(b"tokenizer")
    assert volume.valid_artifact(folder, digest)


def test_other_users_may_read_an_artifact(places: Places, files: dict[str, Path]) -> None:
    files["model.onnx"].chmod(0o600)
    folder = Volume(places).artifact_folder(Volume(places).write_artifact(files, MANIFEST)[0])
    assert folder.stat().st_mode & 0o777 == 0o755
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in folder.iterdir() if path.name != "artifact.json")


def test_the_same_content_is_the_same_artifact_and_is_left_alone(places: Places, files: dict[str, Path]) -> None:
    digest, _ = Volume(places).write_artifact(files, MANIFEST)
    before = (Volume(places).artifact_folder(digest) / "model.onnx").stat()
    assert Volume(places).write_artifact(files, MANIFEST)[0] == digest
    after = (Volume(places).artifact_folder(digest) / "model.onnx").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert [path.name for path in (places.store / "artifacts").iterdir()] == [digest.replace(":", "-")]


@pytest.mark.parametrize("harm", ["alter", "cut", "remove", "manifest"])
def test_a_damaged_artifact_is_not_valid_and_is_repaired(places: Places, files: dict[str, Path], harm: str) -> None:
    digest, _ = Volume(places).write_artifact(files, MANIFEST)
    folder = Volume(places).artifact_folder(digest)
    match harm:
        case "alter":
            (folder / "model.onnx").write_bytes(b"ENGINE")
        case "cut":
            (folder / "model.onnx").write_bytes(b"eng")
        case "remove":
            (folder / "tokenizer.json").unlink()
        case _:
            (folder / "artifact.json").write_text("{}")
    assert not volume.valid_artifact(folder, digest)
    assert Volume(places).write_artifact(files, MANIFEST)[0] == digest
    assert volume.valid_artifact(folder, digest)


def test_a_build_that_breaks_while_copying_leaves_nothing(places: Places, files: dict[str, Path]) -> None:
    with pytest.raises(FileNotFoundError):
        Volume(places).write_artifact(files | {"zzz": Path("/none")}, MANIFEST)
    assert list((places.store / "artifacts").iterdir()) == []


def test_losing_a_race_for_the_same_content_is_as_good_as_winning(
    places: Places, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, _ = Volume(places).write_artifact(files, MANIFEST)
    seen = iter([False, True])
    monkeypatch.setattr(volume, "valid_artifact", lambda *args: next(seen))
    monkeypatch.setattr(volume.shutil, "rmtree", lambda *args, **kwargs: None)
    assert Volume(places).write_artifact(files, MANIFEST)[0] == digest


def test_a_report_counts_only_with_its_artifact(places: Places, files: dict[str, Path]) -> None:
    digest, _ = Volume(places).write_artifact(files, MANIFEST)
    assert Volume(places).finished("eb-1") is None
    stored = Volume(places).write_report("eb-1", report(digest), "<html>", "# card")
    assert Volume(places).finished("eb-1") == stored
    assert stored.digest == f"sha256:{hashlib.sha256(places.report('eb-1').read_bytes()).hexdigest()}"
    assert BuildReport.model_validate_json(places.report("eb-1").read_bytes()) == report(digest)
    assert (places.page("eb-1").read_text(), places.card("eb-1").read_text()) == ("<html>", "# card")
    (Volume(places).artifact_folder(digest) / "model.onnx").unlink()
    assert Volume(places).finished("eb-1") is None


def test_a_build_that_ends_before_its_report_is_written_is_not_finished(
    places: Places, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, _ = Volume(places).write_artifact(files, MANIFEST)
    places.report("eb-1").mkdir(parents=True)  # the report can't take the place of a folder
    with pytest.raises(OSError, match="eb-1"):
        Volume(places).write_report("eb-1", report(digest), "<html>", "# card")
    assert places.page("eb-1").is_file()
    assert Volume(places).finished("eb-1") is None
    assert [path.name for path in places.page("eb-1").parent.iterdir() if path.name.startswith(".")] == []


def test_a_report_of_another_release_does_not_count(places: Places) -> None:
    places.report("eb-1").parent.mkdir()
    places.report("eb-1").write_text('{"artifact": "sha256:00", "unknown": 1}')
    assert Volume(places).finished("eb-1") is None


def test_a_download_is_kept_until_it_is_forgotten(places: Places, make_checkpoint: Callable[..., Path]) -> None:
    found = read_checkpoint(make_checkpoint(), "text-classification")
    digest = hash_tree(found.folder, found.files)
    assert cache.kept(places, digest) is None
    cache.keep(places, found, digest)
    kept = cache.kept(places, digest)
    assert kept is not None
    assert {path.name for path in kept.iterdir()} == set(found.files)
    cache.forget(places, digest)
    assert cache.kept(places, digest) is None


def test_a_damaged_download_is_thrown_away(places: Places, make_checkpoint: Callable[..., Path]) -> None:
    found = read_checkpoint(make_checkpoint(), "text-classification")
    digest = hash_tree(found.folder, found.files)
    cache.keep(places, found, digest)
    (places.store / "models" / digest.replace(":", "-") / "config.json").write_text("{}")
    assert cache.kept(places, digest) is None
    assert not list((places.store / "models").iterdir())
