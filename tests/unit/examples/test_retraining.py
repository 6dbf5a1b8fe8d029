"""The example that trains further: what it refuses, what it publishes, and that nobody finds half a checkpoint."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import transformers

from examples.moderation import train
from examples.retraining import retrain
from tapchanger_serving.contract.retraining import RunResult
from tests.support.small_builds import SENTENCES, small_bert

RUN = "r0123456ab"


@pytest.fixture
def claims(tmp_path: Path) -> Path:
    """A claim with a small checkpoint behind the link `current`, and two files of labelled texts."""
    models = tmp_path / "models"
    models.mkdir()
    small_bert(models / "first", transformers.BertForSequenceClassification)
    (models / "first" / "tokenizer_config.json").write_text("{}")
    (models / "current").symlink_to("first")
    for name, labels in {"new": ("safe", "safe"), "old": ("safe", "unsafe")}.items():
        with (models / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("text", "label"))
            writer.writerows(
                (f"{name} {text} {number}", labels[number % 2]) for number, text in enumerate(SENTENCES * 3)
            )
    return tmp_path


def trained(claims: Path, uri: str = "pvc://models/current", **files: str) -> tuple[int, str]:
    """The exit status, and what stands in the termination message."""
    said = claims / "said"
    given = {"TAPCHANGER_RESULT": str(said), "TAPCHANGER_OUTPUT_URI": uri, "TAPCHANGER_RUN": RUN}
    words = [f"--{name}={claims / 'models' / files.get(name, f'{name}.csv')}" for name in ("new", "old")]
    status = retrain.main([*words, f"--claims={claims}", "--epochs=1"], given)
    return status, said.read_text()


def better(monkeypatch: pytest.MonkeyPatch, *accuracies: float) -> None:
    """What is measured: new and old before, new and old after."""
    found = iter(accuracies)
    monkeypatch.setattr(
        train.Classifier, "measure", lambda self, examples: train.Metrics(next(found), 0.01, len(examples))
    )


def test_what_is_better_is_published_behind_the_link_in_one_step(
    claims: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    better(monkeypatch, 0.2, 0.95, 0.9, 0.95)
    status, said = trained(claims)
    assert status == 0, said
    link = claims / "models" / "current"
    assert link.readlink() == Path(RUN)
    assert {path.name for path in link.resolve().iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert not list((claims / "models").glob(".*"))
    result = RunResult.model_validate_json(said)
    assert result.figures["accuracy_new"] == 0.9
    assert [data.uri for data in result.data] == ["pvc://models/new.csv", "pvc://models/old.csv"]
    assert len(said.encode()) < 4096
    printed = capsys.readouterr().out
    assert not [text for text in SENTENCES if text in printed + said]
    train.Classifier(link, 32)  # it can be read again


@pytest.mark.parametrize(
    ("figures", "why"), [((0.9, 0.95, 0.9, 0.95), "no better"), ((0.2, 0.95, 0.9, 0.9), "forgets old texts")]
)
def test_what_is_no_better_is_not_published(
    claims: Path, monkeypatch: pytest.MonkeyPatch, figures: tuple[float, ...], why: str
) -> None:
    better(monkeypatch, *figures)
    status, said = trained(claims)
    assert status == 0
    assert why in json.loads(said)["message"]
    assert (claims / "models" / "current").readlink() == Path("first")


def test_bad_inputs_say_what_to_change(claims: Path) -> None:
    models = claims / "models"
    (models / "bad.csv").write_text("text,label\nhello,fine\n")
    status, said = trained(claims, new="bad.csv")
    assert (status, said) == (1, "bad.csv, row 2: label 'fine' is none of safe, unsafe")
    (models / "columns.csv").write_text("a,b\n1,2\n")
    assert "text and label are needed" in trained(claims, new="columns.csv")[1]
    assert "pvc://CLAIM/path only" in trained(claims, uri="s3://models/current")[1]
    assert (
        "is no link; make it one: mv first first-0 && ln -s first-0 first"
        in trained(claims, uri="pvc://models/first")[1]
    )


def test_old_checkpoints_of_runs_go_and_the_one_that_serves_stays(claims: Path) -> None:
    models = claims / "models"
    link = models / "current"
    for number in range(6):
        made = models / ".part"
        made.mkdir()
        (made / "config.json").write_text("{}")
        retrain.publish(link, made, f"r{number:09d}")
        retrain.tidy(link)
    left = sorted(path.name for path in models.iterdir() if path.name.startswith("r0"))
    assert left == ["r000000003", "r000000004", "r000000005"]
    assert (models / "first").exists()
