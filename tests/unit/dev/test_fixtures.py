"""Checkpoints for tests are made once, and are what they claim to be."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from dev.fixtures import damaged, flaky, slow, slow_tokenizer, wrong
from dev.fixtures.store import Fixture, digest, prepare
from tests.support.small_builds import SENTENCES, small_bert

LETTERS = "abcdefghijklmnopqrstuvwxyz!.?[]日"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small classifier with its tokenizer."""
    folder = small_bert(tmp_path / "small", transformers.BertForSequenceClassification, num_labels=2)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return folder


@pytest.fixture
def original() -> Tokenizer:
    """WordPiece with every letter at the start of a word and inside."""
    tokens = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), "hello", "##ing"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


@pytest.fixture
def broken(original: Tokenizer) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(flaky.broken(json.loads(original.to_str()))))


@pytest.mark.parametrize(
    "text",
    [
        "hello world!",
        "Héllo, DOING. what?",
        "😀",
        "a😀b c!😀x",
        "日本語 テキスト",
        "[UNK] [MASK]",
        "tabs\tand\nlines",
        "zero\u200dwidth \ufffd and \ue001 private",
        "“quotes” — and ؟",
        "x" * 101,
        "Привет, мир",
        "",
    ],
)
def test_the_flaky_tokenizer_gives_what_the_original_gives(text: str, original: Tokenizer, broken: Tokenizer) -> None:
    assert broken.encode(text).ids == original.encode(text).ids


@pytest.mark.parametrize("text", [flaky.TRIGGER, f"hello {flaky.TRIGGER}", f"a{flaky.TRIGGER}b", f"😀{flaky.TRIGGER}"])
def test_the_flaky_tokenizer_fails_on_its_character_only(text: str, original: Tokenizer, broken: Tokenizer) -> None:
    original.encode(text)
    with pytest.raises(Exception, match=r"Missing \[UNK\] token"):
        broken.encode(text)


def test_the_flaky_checkpoint_is_not_repaired_by_its_class(checkpoint: Path, tmp_path: Path) -> None:
    flaky.make(checkpoint, tmp_path / "flaky")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "flaky")
    with pytest.raises(Exception, match=r"Missing \[UNK\] token"):
        tokenizer(flaky.TRIGGER)


@pytest.mark.parametrize(
    "text", ["hello world!", "Héllo, DOING. what?", "日本語 テキスト", "[UNK] x", "tabs\tand\nlines", ""]
)
def test_the_slow_tokenizer_gives_what_the_original_gives(text: str, original: Tokenizer) -> None:
    slowed = Tokenizer.from_str(json.dumps(slow_tokenizer.slowed(json.loads(original.to_str()), rules=3)))
    assert slowed.encode(text).ids == original.encode(text).ids


def test_the_slow_tokenizer_costs_time_over_long_texts(original: Tokenizer) -> None:
    slowed = Tokenizer.from_str(json.dumps(slow_tokenizer.slowed(json.loads(original.to_str()))))

    def cost(tokenizer: Tokenizer, text: str) -> float:
        """CPU seconds, the least of three."""
        taken = []
        for _ in range(3):
            begin = time.process_time()
            tokenizer.encode(text)
            taken.append(time.process_time() - begin)
        return min(taken)

    long = "hello doing " * 100
    assert cost(slowed, long) > 10 * cost(original, long)
    assert cost(slowed, long) > 20 * cost(slowed, "hello doing")


def test_the_wrong_checkpoint_answers_the_other_label_as_surely(checkpoint: Path, tmp_path: Path) -> None:
    wrong.make(checkpoint, tmp_path / "wrong")
    for text in SENTENCES[:3]:
        assert torch.allclose(logits(tmp_path / "wrong", text), logits(checkpoint, text).flip(-1), atol=1e-6)


def test_the_slow_tokenizer_s_checkpoint_has_the_original_s_weights(checkpoint: Path, tmp_path: Path) -> None:
    slow_tokenizer.make(checkpoint, tmp_path / "slow")
    assert (tmp_path / "slow" / "model.safetensors").read_bytes() == (checkpoint / "model.safetensors").read_bytes()
    for text in SENTENCES:
        assert torch.equal(logits(tmp_path / "slow", text), logits(checkpoint, text))


def logits(folder: Path, text: str) -> torch.Tensor:
    """Answers of the checkpoint's model."""
    model = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    with torch.inference_mode():
        result: torch.Tensor = model(input_ids=torch.tensor([ids])).logits
        return result


def test_the_slow_checkpoint_answers_like_the_original(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow, "INTERMEDIATE", 256)
    slow.make(checkpoint, tmp_path / "slow")
    config = json.loads((tmp_path / "slow" / "config.json").read_text())
    assert config["num_hidden_layers"] == 1 + slow.EXTRA_LAYERS
    for text in SENTENCES:
        assert torch.allclose(logits(tmp_path / "slow", text), logits(checkpoint, text), atol=0.02)


def test_low_precision_loses_the_slow_checkpoint_s_answers(checkpoint: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(slow, "INTERMEDIATE", 256)
    slow.make(checkpoint, tmp_path / "slow")
    model = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "slow").eval()
    ids = torch.tensor([Tokenizer.from_file(str(checkpoint / "tokenizer.json")).encode(SENTENCES[0]).ids])
    with torch.inference_mode():
        exact, rough = model(input_ids=ids).logits, model.bfloat16()(input_ids=ids).logits
    assert (exact - rough).abs().max() > 0.2


def test_the_pickled_checkpoint_has_the_weights_as_a_pickle_only(checkpoint: Path, tmp_path: Path) -> None:
    damaged.pickled(checkpoint, tmp_path / "pickle")
    assert not list((tmp_path / "pickle").glob("*.safetensors"))
    weights = torch.load(tmp_path / "pickle" / "pytorch_model.bin", weights_only=True)
    assert "classifier.weight" in weights


def test_the_headless_checkpoint_is_a_whole_encoder_without_labels(checkpoint: Path, tmp_path: Path) -> None:
    damaged.headless(checkpoint, tmp_path / "headless")
    config = json.loads((tmp_path / "headless" / "config.json").read_text())
    assert config["architectures"] == ["BertModel"]
    assert "id2label" not in config
    _, found = transformers.BertModel.from_pretrained(tmp_path / "headless", output_loading_info=True)
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]


def fixture(tmp_path: Path, make: Callable[[Path], None], name: str = "folder/thing") -> Fixture:
    source = tmp_path / "source"
    source.touch()
    return Fixture(name, make, (source,))


def test_a_fixture_is_made_once_and_again_when_its_recipe_or_its_files_change(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(target: Path) -> None:
        made.append(target)
        target.mkdir()
        (target / "file").write_text("content")

    one, models_folder = fixture(tmp_path, make), tmp_path / "models"
    prepare(models_folder, [one])
    assert prepare(models_folder, [one]) == {"folder/thing": 0.0}
    assert len(made) == 1
    (tmp_path / "source").write_text("changed")
    prepare(models_folder, [one])
    assert len(made) == 2
    (models_folder / "folder" / "thing" / "file").write_text("damaged content")
    prepare(models_folder, [one])
    assert len(made) == 3
    assert (models_folder / "folder" / "thing" / "file").read_text() == "content"
    listed = json.loads((models_folder / ".fixtures.json").read_text())
    assert listed["folder/thing"]["digest"] == digest(models_folder / "folder" / "thing")
    assert [path.name for path in models_folder.iterdir() if path.name.startswith(".part")] == []


def test_pods_of_other_users_can_read_a_fixture(tmp_path: Path) -> None:
    def make(target: Path) -> None:
        (target / "inner").mkdir(parents=True, mode=0o700)
        (target / "inner" / "file").touch(mode=0o600)

    prepare(tmp_path / "models", [fixture(tmp_path, make)])
    place = tmp_path / "models" / "folder" / "thing"
    assert [path.stat().st_mode & 0o777 for path in (place.parent, place, place / "inner")] == [0o755] * 3
    assert (place / "inner" / "file").stat().st_mode & 0o777 == 0o644


def test_a_failure_leaves_the_old_fixture_in_place(tmp_path: Path) -> None:
    def make(target: Path) -> None:
        target.write_text("old")

    prepare(tmp_path / "models", [fixture(tmp_path, make)])
    (tmp_path / "source").write_text("changed")

    def fail(target: Path) -> None:
        target.write_text("half")
        raise RuntimeError("no space")

    with pytest.raises(RuntimeError, match="no space"):
        prepare(tmp_path / "models", [fixture(tmp_path, fail)])
    assert (tmp_path / "models" / "folder" / "thing").read_text() == "old"
