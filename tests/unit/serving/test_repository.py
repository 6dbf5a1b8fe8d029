"""The model repository holds what the artifact's digest vouches for, and nothing else."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tapchanger_serving.contract.artifact import Pooling, SmallEngine
from tapchanger_serving.contract.fit import lacking
from tapchanger_serving.contract.messages import Gpu, Hardware
from tapchanger_serving.contract.names import EXIT_ARTIFACT_DAMAGED, EXIT_ENGINE_INCOMPATIBLE
from tapchanger_serving.contract.plans import PlanNeeds
from tapchanger_serving.repository import __main__ as command
from tapchanger_serving.repository.__main__ import main
from tapchanger_serving.repository.layout import lay_out
from tapchanger_serving.repository.modelconfig import quoted
from tapchanger_serving.repository.models import Serving
from tapchanger_serving.repository.verify import ArtifactError
from tests.support.golden import GOLDEN, compare, no_stale

Make = Callable[..., tuple[Path, str]]
SERVING = Serving("moderation", max_batch=32, queue_delay_us=1500)
GOLDENS = GOLDEN / "repository"
THREE = ("input_ids", "attention_mask", "token_type_ids")
CASES: dict[str, dict[str, Any]] = {
    "classification": {"runtime": "openvino", "inputs": THREE},
    "embedding": {
        "task": "feature-extraction",
        "runtime": "onnxruntime",
        "engine": "model.onnx",
        "output": "hidden",
        "dimensions": 384,
        "labels": (),
        "threads": 2,
        "pooling": Pooling(normalize=True),
    },
    "tokens-on-gpu": {
        "task": "token-classification",
        "runtime": "tensorrt",
        "engine": "model.plan",
        "labels": ("O", "B-PER"),
        "hardware": Hardware(arch="amd64", gpu=Gpu(product="L4", compute_capability="8.9", driver="570")),
        "options": PlanNeeds(version="11.2.1.2", compute_capability="8.9", profiles=2).options(),
    },
}


@pytest.mark.parametrize("case", CASES)
def test_configurations_are_the_golden_ones(case: str, make_artifact: Make, tmp_path: Path) -> None:
    store, digest = make_artifact(**CASES[case])
    lay_out(store, digest, tmp_path / "out", SERVING)
    for model in ("moderation", "moderation-engine"):
        text = (tmp_path / "out" / model / "config.pbtxt").read_text()
        compare(GOLDENS / f"{case}-{model.removeprefix('moderation').lstrip('-') or 'text'}.pbtxt", text)


def test_no_golden_file_is_stale() -> None:
    no_stale(GOLDENS, [f"{case}-{model}.pbtxt" for case in CASES for model in ("text", "engine")])


def test_both_models_share_the_artifacts_files(make_artifact: Make, tmp_path: Path) -> None:
    store, digest = make_artifact({"model.xml": b"<net/>", "model.bin": b"weights", "tokenizer.json": b"{}"})
    lay_out(store, digest, tmp_path / "out", SERVING)
    text, engine = (tmp_path / "out" / name / "1" for name in ("moderation", "moderation-engine"))
    assert (text / "model.bin").read_bytes() == b"weights"
    assert (text / "model.bin").samefile(engine / "model.bin")
    assert json.loads((engine / "artifact.json").read_text())["engine"] == "model.xml"


def test_warmup_data_are_tensors_of_one_text(make_artifact: Make, tmp_path: Path) -> None:
    store, digest = make_artifact()
    (config, _) = lay_out(store, digest, tmp_path / "out", SERVING)
    files = {given.file for warmup in config.warmups for given in warmup.inputs}
    assert files == {path.name for path in (tmp_path / "out" / "moderation" / "warmup").iterdir()}
    for file in files:
        data = (tmp_path / "out" / "moderation" / "warmup" / str(file)).read_bytes()
        (length,) = struct.unpack("<I", data[:4])
        assert length == len(data) - 4
        assert data[4:].decode()


def test_laying_out_again_replaces_what_an_earlier_try_left(make_artifact: Make, tmp_path: Path) -> None:
    store, digest = make_artifact()
    stale = tmp_path / "out" / "moderation" / "1" / "model.xml"
    stale.parent.mkdir(parents=True)
    stale.write_text("half")
    lay_out(store, digest, tmp_path / "out", SERVING)
    assert stale.read_bytes() == b"<net/>"


def test_the_raw_engine_never_gets_more_than_it_was_built_for(make_artifact: Make, tmp_path: Path) -> None:
    store, digest = make_artifact(max_batch_size=4)
    text, engine = lay_out(store, digest, tmp_path / "out", SERVING)
    assert (text.max_batch_size, engine.max_batch_size) == (32, 4)


def test_a_changed_file_is_refused_and_no_model_can_be_served(make_artifact: Make, tmp_path: Path) -> None:
    store, digest = make_artifact()
    (store / "artifacts" / digest.replace(":", "-") / "model.xml").write_bytes(b"<bad/>")
    with pytest.raises(ArtifactError, match=r"file model\.xml of artifact .* has SHA-256 .* delete the folder"):
        lay_out(store, digest, tmp_path / "out", SERVING)
    assert not list((tmp_path / "out").rglob("config.pbtxt"))


def test_a_changed_manifest_is_refused(make_artifact: Make, tmp_path: Path) -> None:
    store, digest = make_artifact()
    manifest = store / "artifacts" / digest.replace(":", "-") / "artifact.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"odd", b"off"))
    with pytest.raises(ArtifactError, match=r"its artifact\.json has digest sha256:"):
        lay_out(store, digest, tmp_path / "out", SERVING)


def test_a_missing_file_is_named(make_artifact: Make, tmp_path: Path) -> None:
    store, digest = make_artifact()
    (store / "artifacts" / digest.replace(":", "-") / "model.xml").unlink()
    with pytest.raises(ArtifactError, match=r"file model\.xml .* No such file"):
        lay_out(store, digest, tmp_path / "out", SERVING)


@pytest.mark.parametrize("harm", ["flip a bit", "cut", "remove", "alter the manifest", "remove all"])
def test_damage_that_a_new_build_mends_has_its_own_exit_code(harm: str, make_artifact: Make, tmp_path: Path) -> None:
    store, digest = make_artifact()
    folder = store / "artifacts" / digest.replace(":", "-")
    engine = folder / "model.xml"
    match harm:
        case "flip a bit":
            content = engine.read_bytes()
            engine.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "cut":
            engine.write_bytes(engine.read_bytes()[:-1])
        case "remove":
            engine.unlink()
        case "alter the manifest":
            (folder / "artifact.json").write_bytes((folder / "artifact.json").read_bytes() + b" ")
        case _:
            shutil.rmtree(folder)
    output = tmp_path / "out"
    arguments = ["--store", str(store), "--name", "m", "--output", str(output), "--max-batch", "8", "--digest", digest]
    assert main([*arguments, "--queue-delay-us", "0"]) == EXIT_ARTIFACT_DAMAGED
    assert not list(output.rglob("config.pbtxt"))


def test_what_a_new_build_does_not_mend_is_another_failure(make_artifact: Make, tmp_path: Path) -> None:
    store, digest = make_artifact(task="text-generation")
    arguments = ["--store", str(store), "--name", "m", "--output", str(tmp_path / "out"), "--digest", digest]
    assert main([*arguments, "--max-batch", "8", "--queue-delay-us", "0"]) == 1


L4 = Gpu(product="NVIDIA L4", compute_capability="8.9", driver="580.95.05")


def start(store: Path, digest: str, output: Path) -> int:
    arguments = ["--store", str(store), "--name", "m", "--output", str(output), "--digest", digest]
    return main([*arguments, "--max-batch", "8", "--queue-delay-us", "0"])


def test_a_node_that_lacks_what_the_engine_was_built_for_has_its_own_exit_code(
    make_artifact: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "probe", lambda: Hardware(arch="amd64", instruction_sets=("avx2",)))
    store, digest = make_artifact(hardware=Hardware(arch="amd64", instruction_sets=("amx_int8", "amx_tile", "avx2")))
    assert start(store, digest, tmp_path / "out") == EXIT_ENGINE_INCOMPATIBLE
    said = json.loads(capsys.readouterr().err)["msg"]
    assert said == "the engine (openvino fp32) needs amx_int8, amx_tile; the node is amd64 with avx2"
    assert not (tmp_path / "out").exists()


def test_a_small_engine_beside_a_tensorrt_plan_needs_the_cpu_too(
    make_artifact: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "probe", lambda: Hardware(arch="amd64", gpu=L4))
    built_on = Hardware(arch="amd64", instruction_sets=("avx2",), gpu=L4)
    small = SmallEngine(tokens=64, runtime="openvino", precision="fp32", engine="model.xml")
    store, digest = make_artifact(runtime="tensorrt", hardware=built_on, small=small)
    assert start(store, digest, tmp_path / "out") == EXIT_ENGINE_INCOMPATIBLE


def test_a_node_that_has_more_serves(make_artifact: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "probe", lambda: Hardware(arch="amd64", instruction_sets=("amx_int8", "avx2")))
    store, digest = make_artifact(hardware=Hardware(arch="amd64", instruction_sets=("avx2",)))
    assert start(store, digest, tmp_path / "out") == 0


def test_damage_is_told_before_hardware(make_artifact: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "probe", lambda: Hardware(arch="s390x"))
    assert start(tmp_path, "sha256:" + "0" * 64, tmp_path / "out") == EXIT_ARTIFACT_DAMAGED


@pytest.mark.parametrize(
    ("gpu", "fits"),
    [
        (L4, True),
        (L4.model_copy(update={"driver": "580.126.20"}), True),
        (L4.model_copy(update={"driver": "570.1"}), False),
        (L4.model_copy(update={"product": "NVIDIA L40S"}), False),
        (L4.model_copy(update={"compute_capability": "9.0"}), False),
        (None, False),
    ],
    ids=str,
)
def test_a_plan_runs_on_its_own_kind_of_gpu_whatever_the_cpu(gpu: Gpu | None, fits: bool) -> None:
    needed = Hardware(arch="amd64", instruction_sets=("avx2",), gpu=L4)
    missing = lacking("tensorrt", needed, Hardware(arch="amd64", gpu=gpu))
    assert missing == (() if fits else ("GPU NVIDIA L4 (compute capability 8.9, driver 580)",))
    assert ("avx2" in lacking("openvino", needed, Hardware(arch="amd64", gpu=gpu))) is True


def test_another_architecture_lacks_all() -> None:
    needed = Hardware(arch="amd64", instruction_sets=("avx2",), gpu=L4)
    assert lacking("openvino", needed, Hardware(arch="arm64")) == ("architecture amd64",)


@pytest.mark.parametrize("path", ["../escape", "/etc/passwd", "a/../../b"])
def test_a_manifest_can_not_write_outside_the_repository(path: str, make_artifact: Make, tmp_path: Path) -> None:
    store, digest = make_artifact({path: b""}, write=False)
    with pytest.raises(ArtifactError, match="outside the artifact"):
        lay_out(store, digest, tmp_path / "out", SERVING)


def test_a_task_that_can_not_be_served_is_refused(make_artifact: Make, tmp_path: Path) -> None:
    store, digest = make_artifact(task="text-generation")
    with pytest.raises(ValueError, match="can't serve text-generation"):
        lay_out(store, digest, tmp_path / "out", SERVING)


def test_the_command_says_why_it_failed_in_one_json_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--store", str(tmp_path), "--name", "m", "--output", str(tmp_path), "--max-batch", "8"]
    code = main([*arguments, "--queue-delay-us", "0", "--digest", "sha256:" + "0" * 64])
    (line,) = capsys.readouterr().err.splitlines()
    assert code == EXIT_ARTIFACT_DAMAGED
    assert json.loads(line)["level"] == "error"
    assert "is not in the store" in json.loads(line)["msg"]


def test_a_digest_of_another_form_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"digest: found 'md5:1'; write sha256:"):
        lay_out(tmp_path, "md5:1", tmp_path / "out", SERVING)


def test_the_command_refuses_a_batch_of_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--digest", "x", "--name", "m", "--queue-delay-us", "0", "--max-batch", "0"])
    assert "at least 1" in capsys.readouterr().err


def test_literals_can_not_end_early() -> None:
    assert quoted('a"b\\c\né') == '"a\\042b\\134c\\012\\303\\251"'
