"""`tapchanger build`: what it is asked for, what it shows, and that its folder is complete or not there."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from rich.progress import Progress

from tapchanger_cli import build as command
from tapchanger_cli.app import cli
from tapchanger_cli.local import folder, order, progress
from tapchanger_cli.local.folder import FolderError
from tapchanger_serving.contract.gates import Gates, MetricGate
from tapchanger_serving.contract.messages import BuildRequest, Hardware, Inspection
from tapchanger_serving.contract.stored import artifact_path, report_path
from tests.support.golden import ROOT
from tests.support.samples import report

FOUND = Inspection(
    digest="sha256:" + "d" * 64, task="text-classification", architecture="BertForSequenceClassification", max_tokens=64,
    parameters=1, size_bytes=1, hardware=Hardware(arch="amd64"),
)  # fmt: skip
MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
---
apiVersion: tapchanger.dev/v1alpha1
kind: TransformerDeployment
metadata: {name: moderation}
spec:
  model: {uri: pvc://models/moderation-v1, task: text-classification}
  engine:
    runtime: openvino
    shapes: {maxBatchSize: 8}
    gates:
      evaluation:
        dataset: {uri: pvc://models/test.csv, label: verdict, slices: [source]}
        metrics: [{name: accuracy, min: 0.9}]
"""


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["build", *words], prog_name="tapchanger")


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("accuracy>=0.9", MetricGate(name="accuracy", min=0.9)),
        ("ece <= 5e-2", MetricGate(name="ece", max=0.05)),
        ("f1 drop<=0.01", MetricGate(name="f1", max_drop=0.01)),
        ("accuracy[source=forum]≥.8", MetricGate(name="accuracy", min=0.8, slice="source=forum")),
        ("accuracy[*] drop <= 0.02", MetricGate(name="accuracy", max_drop=0.02, slice="*")),
    ],
)
def test_a_bound_is_written_as_people_write_it(text: str, bound: MetricGate) -> None:
    assert order.metric(text) == bound


@pytest.mark.parametrize(
    "text", ["accuracy", "accuracy=0.9", "accuracy>0.9", "accuracy drop>=0.1", "beauty>=0.9", "f1>=x", ""]
)
def test_a_bound_that_is_none_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(click.BadParameter, match="accuracy"):
        order.metric(text)


def test_a_manifest_gives_engine_and_gates_and_options_change_them(tmp_path: Path) -> None:
    path = tmp_path / "moderation.yaml"
    path.write_text(MANIFEST)
    wanted = order.moved(order.from_manifest(path), order.address(str(tmp_path)), None)
    wanted = order.with_engine(wanted, gates=None, runtime=None, precision="int8", max_batch_size=None, max_tokens=64)
    wanted = order.with_data(
        wanted, "file:///d.csv", {"text": "body", "label": None}, [MetricGate(name="ece", max=0.1)]
    )
    asked = wanted.request(FOUND)
    assert (asked.uri, asked.digest, asked.task) == (f"file://{tmp_path}", FOUND.digest, "text-classification")
    assert (asked.runtime, asked.precision) == ("openvino", "int8")
    assert (asked.shapes.max_batch_size, asked.shapes.max_tokens) == (8, 64)
    assert asked.gates.evaluation is not None
    dataset = asked.gates.evaluation.dataset
    assert (dataset.uri, dataset.text, dataset.label, dataset.slices) == (
        "file:///d.csv",
        "body",
        "verdict",
        ("source",),
    )
    assert [bound.name for bound in asked.gates.evaluation.metrics] == ["accuracy", "ece"]


def test_a_build_is_named_by_its_content_and_not_by_where_it_lies(tmp_path: Path) -> None:
    def name(uri: str = "file:///m", data: str | None = None, **engine: Any) -> str:
        sizes = {"max_batch_size": None, "max_tokens": None}
        wanted = order.with_data(order.with_engine(order.Order(uri), **sizes, **engine), data, {}, [])
        return wanted.request(FOUND).name

    data = tmp_path / "data.csv"
    data.write_text("text,label\na,b\n")
    before = name(data=order.data_address(str(data)))
    data.write_text("text,label\na,c\n")
    names = {name(), name(precision="fp32"), name(gates=Gates()), before, name(data=order.data_address(str(data)))}
    assert len(names) == 4  # the default gates are the default gates
    assert name() == name(uri="hf://team/m")


def test_a_student_is_asked_for_by_a_file_and_what_differs_from_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("body\ntea\n")
    options = {"text": "body", "text_pair": None, "layers": 3, "max_duration": "90s", "seed": None}
    texts = order.data_address(str(tmp_path / "texts.csv"))
    asked = order.with_student(order.Order("file:///m"), texts, options).request(FOUND)
    assert asked.steps == ("fetch", "export", "distill", "measure")
    assert asked.distill is not None
    assert (asked.distill.dataset.uri, asked.distill.dataset.text) == (texts, "body")
    assert (asked.distill.layers, asked.distill.epochs, asked.distill.max_seconds) == (3, 3, 90)
    (tmp_path / "texts.csv").write_text("body\nrain\n")
    other = order.data_address(str(tmp_path / "texts.csv"))
    changed = order.with_student(order.Order("file:///m"), other, options).request(FOUND)
    assert changed.name != asked.name
    # Of a manifest that asks for a student already, options change what they name.
    known = order.with_student(order.Order("file:///m"), "pvc://texts/all.csv", {"layers": 2, "epochs": 9})
    again = order.with_student(known, None, {"layers": 4}).engine.distill
    assert again is not None
    assert (again.dataset.uri, again.layers, again.epochs) == ("pvc://texts/all.csv", 4, 9)
    assert order.with_student(order.Order("file:///m"), None, {"layers": None}).request(FOUND).steps == (
        "fetch", "export", "measure",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("uri", "label"),
    [
        ("file:///models/my model", "my-model"),
        ("hf://team/moderation@v2", "moderation"),
        ("https://host/m.tar.gz@sha256:00", "m.tar.gz"),
        ("file:///..", "model"),
    ],
)
def test_the_folders_name_comes_from_the_models(uri: str, label: str) -> None:
    assert order.Order(uri).label == label


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give a MODEL"),
        (["m", "--metric", "accuracy>=0.9"], "add --data FILE"),
        (["m", "--data", "none.csv"], "none.csv: No such file"),
        (["m", "-f", "none.yaml"], "none.yaml: No such file"),
        (["m", "-f", "empty.yaml"], "empty.yaml has 0 TransformerDeployments"),
        (["m", "-f", "broken.yaml"], "broken.yaml is no YAML"),
        (["m", "--gates", "list.yaml"], "list.yaml holds a list"),
        (["m", "--gates", "gates.yaml"], "gates.yaml: parity.minAgreement: Input should be less than or equal to 1"),
        (
            ["m", "--distill-layers", "3", "--distill-text", "body"],
            "--distill-layers, --distill-text: from which texts? Add",
        ),
        (["m", "--distill", "none.csv"], "--distill: none.csv: No such file"),
        (
            ["m", "--distill", "texts.csv", "--distill-max-duration", "2d"],
            "--distill-max-duration: write a time from 1s to 24h, such as 30m or 1h30m, not '2d'",
        ),
        (["m", "--distill", "texts.csv", "--distill-layers", "0"], "1<=x<=1000"),
        (["m", "--runtime", "magic"], "'magic' is not one of"),
        (["m", "--max-tokens", "2"], "8<=x<=32768"),
    ],
)
def test_wrong_usage_says_what_to_write(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in {
        "empty.yaml": "", "broken.yaml": "a: [", "list.yaml": "[1]", "gates.yaml": "parity: {minAgreement: 2}",
        "texts.csv": "text\n",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(content)
    result = run(*words)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def test_a_model_that_is_not_there_is_the_builders_error_with_the_options_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model-v1").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "serving"))
    monkeypatch.chdir(tmp_path)
    result = run("./model")
    assert result.exit_code == 42
    assert (
        f"error: ModelNotFound: file://{tmp_path}/model: no folder at this path; beside it lie: model-v1"
        in result.stderr
    )
    assert "\n  MODEL: write the path of an existing folder" in result.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["model-v1"]


def test_without_the_builder_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None if name == "nncf" else object())
    result = run("./model")
    assert (result.exit_code, result.stderr) == (
        1, "error: the package nncf is missing\n  install the builder: pip install 'tapchanger[cli,builder]'\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            {"msg": "trying candidate", "number": 2, "of": 5, "candidate": "openvino int8"},
            "trying candidate openvino int8 (2 of 5)",
        ),
        (
            {"msg": "tried candidate", "candidate": "openvino int8", "agreement": 0.98406, "seconds": 7.04},
            "tried candidate openvino int8 (0.98406 agreement, 7.0 s)",
        ),
        (
            {"msg": "measuring latency", "batch": 8, "tokens": 64, "number": 3, "of": 6},
            "measuring latency 8 × 64 tokens (3 of 6)",
        ),
        (
            {"msg": "measured candidate", "runtime": "openvino", "precision": "bf16", "texts_per_second": 15324.2},
            "measured candidate openvino bf16 (15,324 texts/s)",
        ),
        (
            {"msg": "candidate failed", "candidate": "tensorrt fp16", "error": "no \x1b[31mGPU", "seconds": 1},
            "candidate failed tensorrt fp16 (1.0 s): no �[31mGPU",
        ),
        (
            {"msg": "training student", "number": 82, "of": 314, "epoch": 1, "train_loss": 0.75411},
            "training student in epoch 1 (82 of 314, 0.75411 loss)",
        ),
        ({"msg": "answering with PyTorch", "texts": 251}, "answering with PyTorch (251 texts)"),
        ({}, ""),
    ],
)  # fmt: skip
def test_an_event_is_told_in_words(line: dict[str, Any], words: str) -> None:
    assert progress.told(line) == words


def test_a_pipe_gets_a_line_for_each_event() -> None:
    file = io.StringIO()
    with progress.shown(Console(file=file, width=40, highlight=False)) as shown:
        shown.hear("fetch", {"msg": "fetching [bold]checkpoint[/bold]", "uri": "file:///a/path/that/is/long"})
        shown.done("fetch")
    assert re.sub(r"(?m)^ +\d+\.\d s  ", "", file.getvalue()) == (
        "fetch    fetching [bold]checkpoint[/bold] file:///a/path/that/is/long\nfetch    done\n"
    )


def test_a_terminal_gets_a_bar_for_each_step_that_began() -> None:
    file = io.StringIO()
    with progress.shown(Console(file=file, width=100, force_terminal=True, color_system=None)) as shown:
        assert isinstance(shown, progress.Bars)
        shown.hear("measure", {"level": "info", "msg": "trying candidate", "candidate": "a", "number": 2, "of": 5})
        shown.hear("measure", {"level": "warning", "msg": "candidate failed", "candidate": "b", "error": "why"})
        bars: Progress = shown._progress
        drawn = {task.description: (task.completed, task.total, task.visible) for task in bars.tasks}
        shown.done("measure")
    assert drawn["measure"] == (1.0, 5.0, True)
    assert drawn["export"] == (0.0, None, False)
    assert "measure: candidate failed b: why" in file.getvalue()
    assert "✔ measure" in file.getvalue()


def stored(outcome: folder.Outcome, name: str = "eb-1") -> BuildRequest:
    """What the builder's last step leaves in the store."""
    found = report()
    artifact = outcome.store / artifact_path(found.artifact)
    artifact.mkdir(parents=True)
    (artifact / "model.xml").write_text("engine")
    path = outcome.store / report_path(name)
    path.parent.mkdir()
    for suffix, text in ((".json", found.dumps()), (".html", "<html>"), (".md", "# card")):
        path.with_suffix(suffix).write_text(text)
    return order.Order("file:///m").request(FOUND).model_copy(update={"name": name})


def built(path: Path, name: str = "eb-1") -> None:
    with folder.outcome(path) as outcome:
        outcome.publish(stored(outcome, name))


def content(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


def test_a_folder_is_complete(tmp_path: Path) -> None:
    built(tmp_path / "deep" / "engine")
    assert content(tmp_path / "deep" / "engine") == {
        "artifact",
        "report.json",
        "report.html",
        "README.md",
        "request.json",
    }
    assert folder.read_report(tmp_path / "deep" / "engine") == report()
    assert content(tmp_path / "deep") == {"engine"}


def test_a_later_build_takes_the_earlier_ones_place(tmp_path: Path) -> None:
    path = tmp_path / "engine"
    built(path)
    built(path, "eb-2")
    assert json.loads((path / "request.json").read_text())["name"] == "eb-2"
    assert content(tmp_path) == {"engine"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_a_build_that_ends_early_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    def begin(path: Path) -> None:
        with folder.outcome(path) as outcome:
            stored(outcome)
            raise error

    def stop(path: Path) -> None:
        with pytest.raises(error):
            begin(path)

    stop(tmp_path / "engine")
    assert content(tmp_path) == set()
    built(tmp_path / "engine")
    stop(tmp_path / "engine")
    assert json.loads((tmp_path / "engine/request.json").read_text())["name"] == "eb-1"
    assert content(tmp_path) == {"engine"}


def test_an_earlier_folder_comes_back_if_it_cannot_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "engine"
    built(path)
    rename = Path.rename

    def refuse(source: Path, target: Path) -> Path:
        if source.name == "complete":
            raise OSError("disk")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="disk"):
        built(path, "eb-2")
    assert json.loads((path / "request.json").read_text())["name"] == "eb-1"


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FolderError, match=r"notes\.txt") as refused, folder.outcome(tmp_path):
        pass
    assert refused.value.exit_code == 42
    with pytest.raises(FolderError, match="is a file"), folder.outcome(tmp_path / "notes.txt"):
        pass
    assert content(tmp_path) == {"notes.txt"}


def test_only_a_build_of_the_same_content_is_lent_to_the_builder(tmp_path: Path) -> None:
    built(tmp_path / "engine")
    with folder.outcome(tmp_path / "engine") as outcome:
        outcome.lend("eb-2")
        assert not (outcome.store / report_path("eb-1")).exists()
        outcome.lend("eb-1")
        assert (outcome.store / report_path("eb-1")).read_text() == report().dumps()
        assert (outcome.store / artifact_path(report().artifact) / "model.xml").read_text() == "engine"
        outcome.take_back()
        assert content(outcome.store) == set()
    assert (tmp_path / "engine/artifact/model.xml").read_text() == "engine"
