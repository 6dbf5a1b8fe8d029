"""The command line: exit codes, last words, and how light `inspect` stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tapchanger_serving.build import __main__ as command
from tapchanger_serving.build import fetch, measure
from tapchanger_serving.build.digest import hash_tree
from tapchanger_serving.build.failures import StepError, WrongNodeError
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.stores.volume import Volume
from tapchanger_serving.contract.artifact import Artifact
from tapchanger_serving.contract.gates import DatasetSource, EvaluationGate, Gates
from tapchanger_serving.contract.messages import (
    BuildReport,
    BuildRequest,
    Hardware,
    Inspection,
    StepFailure,
)
from tapchanger_serving.contract.names import ENV_BUILD_REQUEST
from tapchanger_serving.hardware import probe

FILES = ("config.json", "model.safetensors", "tokenizer.json")
Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def environment(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("store", "claims", "work"):
        monkeypatch.setenv(f"TAPCHANGER_{name.upper()}_DIR", str(getattr(places, name)))
    monkeypatch.setenv("TAPCHANGER_TERMINATION_LOG", str(places.termination_log))
    monkeypatch.setattr(command.log, "adopt_libraries", lambda: None)


def request(folder: Path, **fields: object) -> BuildRequest:
    base = {
        "name": "eb-1", "uri": f"file://{folder}", "digest": hash_tree(folder, FILES),
        "task": "text-classification", "hardware": probe(),
    }  # fmt: skip
    return BuildRequest.model_validate(base | fields)


def run(monkeypatch: pytest.MonkeyPatch, step: str, order: BuildRequest) -> int:
    monkeypatch.setenv(ENV_BUILD_REQUEST, order.dumps())
    return command.main([step])


def failure(places: Places) -> StepFailure:
    return StepFailure.model_validate_json(places.termination_log.read_text())


def test_an_inspection_is_the_last_word(
    make_checkpoint: Make, places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_checkpoint()
    assert command.main(["inspect", "--uri", f"file://{folder}", "--task", "text-classification"]) == 0
    found = Inspection.model_validate_json(places.termination_log.read_text())
    assert found.digest == hash_tree(folder, FILES)
    assert found.hardware == probe()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["level"], line["msg"]) for line in lines] == [("info", "inspected checkpoint")]


def test_a_pin_must_match_the_content(make_checkpoint: Make, places: Places) -> None:
    uri = f"file://{make_checkpoint()}@sha256:{'0' * 64}"
    assert command.main(["inspect", "--uri", uri, "--task", "text-classification"]) == 42
    assert failure(places).reason == "DigestMismatch"
    assert "0" * 64 in failure(places).message


def test_inspect_imports_no_framework(make_checkpoint: Make, tmp_path: Path) -> None:
    script = (
        "import sys; from tapchanger_serving.build.__main__ import main; "
        f"code = main(['inspect', '--uri', 'file://{make_checkpoint()}', '--task', 'text-classification']); "
        "heavy = {'torch', 'transformers', 'onnxruntime', 'openvino', 'tokenizers'} & set(sys.modules); "
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    env = os.environ | {"PYTHONPATH": str(Path(command.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", script], env=env, check=True)


def test_fetch_leaves_a_verified_copy(make_checkpoint: Make, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    order = request(make_checkpoint())
    assert run(monkeypatch, "fetch", order) == 0
    assert hash_tree(places.checkpoint, FILES) == order.digest
    assert not places.unchanged.exists()
    assert not places.termination_log.exists()


def test_content_that_changed_since_its_inspection_is_not_built(
    make_checkpoint: Make, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_checkpoint()
    order = request(folder)
    (folder / "tokenizer.json").write_text("{}")
    assert run(monkeypatch, "fetch", order) == 42
    assert failure(places).reason == "DigestMismatch"
    assert order.digest in failure(places).message
    assert hash_tree(folder, FILES) in failure(places).message


def test_evaluation_data_is_fetched_with_its_pin(
    make_checkpoint: Make, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data.csv").write_text("text,label\na,calm\n")
    (places.work / "dataset.jsonl").write_text("stale")

    def evaluated(pin: str) -> BuildRequest:
        gates = Gates(evaluation=EvaluationGate(dataset=DatasetSource(uri=f"file://{tmp_path}/data.csv{pin}")))
        return request(tmp_path / "checkpoint", gates=gates)

    make_checkpoint()
    assert run(monkeypatch, "fetch", evaluated("")) == 0
    assert places.dataset() == places.work / "dataset.csv"
    assert run(monkeypatch, "fetch", evaluated("@sha256:" + "0" * 64)) == 42
    assert failure(places).field == "spec.engine.gates.evaluation.dataset.uri"


def test_texts_for_a_student_are_fetched_if_a_student_can_be_smaller(
    make_checkpoint: Make, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts.csv").write_text("text\na\n")
    distill = {"dataset": {"uri": f"file://{tmp_path}/texts.csv"}, "layers": 2}
    assert run(monkeypatch, "fetch", request(make_checkpoint("deep", num_hidden_layers=4), distill=distill)) == 0
    assert places.distill_data() == places.work / "distill.csv"
    assert run(monkeypatch, "fetch", request(make_checkpoint("flat", num_hidden_layers=2), distill=distill)) == 42
    said = failure(places)
    assert (said.reason, said.field) == ("DistillInvalid", "spec.engine.distill.layers")
    assert said.remedy == "write 1, or leave it out for 1"


def test_without_an_order_no_student_is_made(
    make_checkpoint: Make, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, "distill", request(make_checkpoint())) == 0
    assert not places.student.exists()


def stored_build(places: Places, tmp_path: Path) -> BuildReport:
    (tmp_path / "engine").write_bytes(b"engine")
    manifest = Artifact(
        task="text-classification", runtime="openvino", precision="fp32", engine="model.xml",
        inputs=("input_ids",), output="logits",
        dimensions=2, max_tokens=64, max_batch_size=8, hardware=probe(), files=(),
    )  # fmt: skip
    digest, size = Volume(places).write_artifact({"model.xml": tmp_path / "engine"}, manifest)
    report = BuildReport(
        artifact=digest, size_bytes=size, runtime="openvino", precision="fp32", why="fast", speedup=2, torch_texts_per_second=1,
        candidates=(), gates=(), surface=(), compared_texts=1, seconds=1,
    )  # fmt: skip
    return Volume(places).write_report("eb-1", report, "<html>", "# card")


def test_a_build_that_is_in_the_store_is_not_made_again(
    make_checkpoint: Make, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = stored_build(places, tmp_path)
    order = request(make_checkpoint())
    assert [run(monkeypatch, step, order) for step in ("fetch", "export", "measure")] == [0, 0, 0]
    assert BuildReport.model_validate_json(places.termination_log.read_text()) == report
    assert not places.checkpoint.exists()
    assert not places.exported.exists()


def test_a_build_whose_artifact_is_damaged_is_made_again(
    make_checkpoint: Make, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = stored_build(places, tmp_path)
    (Volume(places).artifact_folder(report.artifact) / "model.xml").write_bytes(b"other")
    assert run(monkeypatch, "fetch", request(make_checkpoint())) == 0
    assert not places.unchanged.exists()
    assert places.checkpoint.exists()


def test_probe_says_what_the_machine_is_and_needs_nothing(places: Places) -> None:
    assert command.main(["probe"]) == 0
    assert Hardware.model_validate_json(places.termination_log.read_text()) == probe()


def test_measure_refuses_other_hardware_and_may_be_tried_again(
    make_checkpoint: Make, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = request(make_checkpoint(), hardware=Hardware(arch="s390x"))
    assert run(monkeypatch, "measure", order) == 1
    assert failure(places).reason == "HardwareMismatch"
    with pytest.raises(WrongNodeError, match="s390x"):
        measure.measure(order, places)


def raiser(error: Exception) -> Callable[..., None]:
    def step(*args: object) -> None:
        raise error

    return step


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (StepError("ModelNotFound", "gone", field="spec.model.uri"), 42, "ModelNotFound"),
        (PermissionError(13, "Permission denied", "/claims/m/model.safetensors"), 42, "PermissionDenied"),
        (RuntimeError("first line\nsecond line"), 1, "BuildCrashed"),
        (ValueError(), 1, "BuildCrashed"),
    ],
)
def test_every_way_to_fail_has_its_exit_code_and_its_words(
    make_checkpoint: Make,
    places: Places,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
    reason: str,
) -> None:
    monkeypatch.setattr(fetch, "fetch", raiser(error))
    assert run(monkeypatch, "fetch", request(make_checkpoint())) == code
    said = failure(places)
    assert said.reason == reason
    assert "second line" not in said.message
    if isinstance(error, PermissionError):
        assert "/claims/m/model.safetensors" in said.message
    assert all(json.loads(line) for line in capsys.readouterr().out.splitlines())
