"""`tapchanger build` on a small checkpoint: what a user runs, with the real builder behind it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import transformers
from huggingface_hub import ModelCard

from tapchanger_serving.build.stores.volume import valid_artifact
from tests.support.golden import ROOT
from tests.support.small_builds import SENTENCES, small_bert

SMALL = ("--runtime", "onnxruntime", "--precision", "fp32", "--max-tokens", "16", "--max-batch-size", "2")
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts the command in a folder with a checkpoint `model` and data `data.csv`."""
    labels = {0: "calm", 1: "angry"}
    small_bert(tmp_path / "model", transformers.BertForSequenceClassification, id2label=labels, num_labels=2)
    rows = [f'"{SENTENCES[index % 4]}",{labels[index % 2]}' for index in range(40)]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *rows]))
    env = os.environ | {"PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'serving'}"}

    def start(*words: str) -> subprocess.Popen[str]:
        # What runs in the background ignores Ctrl-C, and so would all that it starts.
        reset = "import signal, runpy; signal.signal(signal.SIGINT, signal.default_int_handler)"
        command = [
            sys.executable,
            "-c",
            f"{reset}; runpy.run_module('tapchanger_cli', run_name='__main__')",
            "build",
            *words,
        ]
        return subprocess.Popen(
            command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return start


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate()
    return process.returncode, out, err


def content(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


def test_a_build_writes_its_folder_once_and_a_failed_one_leaves_it(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "model-engine"
    code, out, err = finished(start("./model", *SMALL, "--data", "data.csv", "--metric", "accuracy>=0.1", "-o", "json"))
    assert code == 0, err
    first = json.loads(out)
    assert (first["built"], first["task"], first["folder"]) == (True, "text-classification", str(folder))
    assert {gate["name"] for gate in first["report"]["gates"]} >= {"parity agreement", "accuracy"}
    assert content(folder) == {"artifact", "report.json", "report.html", "README.md", "request.json"}
    assert valid_artifact(folder / "artifact", first["report"]["artifact"])
    assert json.loads((folder / "report.json").read_text()) == first["report"]
    assert first["report"]["artifact"] in (folder / "report.html").read_text()
    results = ModelCard.load(folder / "README.md").data.eval_results
    assert results is not None
    assert {result.metric_type for result in results} >= {"parity_agreement", "accuracy"}
    assert "measure  trying candidate onnxruntime fp32 (1 of 1)" in err
    assert "measure  done" in err

    before = (folder / "report.json").stat().st_ino
    code, out, err = finished(start("./model", *SMALL, "--data", "data.csv", "--metric", "accuracy>=0.1"))
    assert code == 0, err
    assert out.startswith("built already, from the same content on the same hardware: onnxruntime fp32")
    assert "export" not in err
    assert (folder / "report.json").stat().st_ino == before

    (folder / "artifact/model.onnx").write_bytes(b"damaged")
    code, _, err = finished(start("./model", *SMALL, "--data", "data.csv", "--metric", "accuracy>=0.99"))
    assert code == 42
    assert "error: GateFailed: no engine passes all gates; onnxruntime fp32: accuracy is" in err
    assert "\n  --gates: loosen the bound that failed" in err
    assert (folder / "report.json").stat().st_ino == before

    code, out, err = finished(start("./model", *SMALL, "--data", "data.csv", "--metric", "accuracy>=0.1", "-o", "json"))
    assert code == 0, err
    assert json.loads(out)["built"] is True
    assert valid_artifact(folder / "artifact", json.loads(out)["report"]["artifact"])
    assert content(tmp_path) == {"model", "data.csv", "model-engine"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_build_leaves_nothing_and_no_process(
    start: Start, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = start("./model", *SMALL)
    assert process.stderr is not None
    for line in process.stderr:
        if "loading model" in line:
            break
    steps = children(process.pid)
    assert len(steps) == 1
    process.send_signal(number)
    found, _, err = finished(process)
    assert (found, "Traceback" in err) == (code, False)
    assert content(tmp_path) == {"model", "data.csv"}
    assert not Path(f"/proc/{steps[0]}").exists()


def children(pid: int) -> list[int]:
    """Processes that `pid` has started and not yet buried."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
