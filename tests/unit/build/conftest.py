"""A small checkpoint, written without PyTorch, and folders for a build."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import models, pre_tokenizers, processors

from tapchanger_serving.build import heats, timing
from tapchanger_serving.build.dataset import Rows
from tapchanger_serving.build.places import Places
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.build.timing import Effort
from tapchanger_serving.engines.text import Tensors, Tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "tea", "rain", "train", "late"]
CONFIG: dict[str, Any] = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "id2label": {"0": "calm", "1": "angry"},
}


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Empty folders, as a build's pod has them."""
    for name in ("store", "claims", "work"):
        (tmp_path / name).mkdir()
    return Places(tmp_path / "store", tmp_path / "claims", tmp_path / "work", tmp_path / "termination-log")


@pytest.fixture
def tokenizer_file(tmp_path: Path) -> Path:
    """A word tokenizer with BERT's special tokens."""
    tokenizer = RawTokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    path = tmp_path / "words.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture
def make_checkpoint(tmp_path: Path, tokenizer_file: Path) -> Callable[..., Path]:
    """Writes a checkpoint folder; keyword arguments change its config.json."""

    def make(name: str = "checkpoint", **config: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        content = {key: value for key, value in (CONFIG | config).items() if value is not None}
        (folder / "config.json").write_text(json.dumps(content))
        save_file(
            {"weight": np.zeros((3, 5), np.float32), "bias": np.zeros(3, np.float32)}, folder / "model.safetensors"
        )
        (folder / "tokenizer.json").write_bytes(tokenizer_file.read_bytes())
        (folder / "README.md").write_text("not part of the content")
        return folder

    return make


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock by which engines are timed: they move it themselves."""
    clock = SimpleNamespace(now=0.0)
    inner = timing.interleave

    def interleave(runners: Any, feeds: Tensors, effort: Effort) -> Any:
        return inner(runners, feeds, effort, lambda: clock.now)

    monkeypatch.setattr(timing, "interleave", interleave)
    monkeypatch.setattr(heats, "with_best_threads", lambda make, _: make(0))
    return clock


@pytest.fixture
def texts(tokenizer_file: Path) -> Encoded:
    """Two short texts."""
    return Encoded.of(Tokenizer(tokenizer_file, ("input_ids",), 256), Rows(texts=("good tea", "bad rain")), 8)
