"""A tokenizer of whole words, and artifacts made of small files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models, pre_tokenizers, processors

from tapchanger_serving.contract.artifact import MANIFEST, Artifact, ArtifactFile
from tests.support.small_serving import FIELDS

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *"abcdefghij"]


@pytest.fixture
def tokenizer_file(tmp_path: Path) -> Path:
    """`tokenizer.json` in the manner of BERT's: [CLS] words [SEP], one token for each letter from a to j."""
    rust = RustTokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    rust.pre_tokenizer = pre_tokenizers.Whitespace()
    rust.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    file = tmp_path / "tokenizer.json"
    rust.save(str(file))
    return file


@pytest.fixture
def make_artifact(tmp_path: Path) -> Callable[..., tuple[Path, str]]:
    """Writes an artifact into a store; `files` is path → content, other arguments replace the manifest's fields."""

    def make(files: Mapping[str, bytes] | None = None, *, write: bool = True, **fields: Any) -> tuple[Path, str]:
        contents = files if files is not None else {"model.xml": b"<net/>", "tokenizer.json": b"{}"}
        listed = tuple(
            ArtifactFile(path=path, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
            for path, content in contents.items()
        )
        manifest = Artifact(**{**FIELDS, "files": listed, **fields}).dumps().encode()
        digest = hashlib.sha256(manifest).hexdigest()
        store = tmp_path / "store"
        folder = store / "artifacts" / f"sha256-{digest}"
        folder.mkdir(parents=True)
        (folder / MANIFEST).write_bytes(manifest)
        for path, content in contents.items() if write else ():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        return store, f"sha256:{digest}"

    return make
