"""Data files, vocabularies and configurations made to harm the later steps: refused in words, in bounded memory and time."""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from safetensors.numpy import load_file, save_file

from tapchanger_serving.build.weights import SINGLE
from tests.support import bounded
from tests.support.small_builds import Build, small_bert

GOOD = "text,label\na plain sentence,calm\n"
READ = """
import sys
from pathlib import Path
from tapchanger_serving.build.dataset import read_dataset, require_size, suffix_of
from tapchanger_serving.build.failures import StepError
from tapchanger_serving.contract.gates import DatasetSource
uri, path = sys.argv[1:]
try:
    suffix_of(uri)
    require_size(Path(path), uri)
    rows = read_dataset(Path(path), DatasetSource(uri=uri))
    print(len(rows), ascii(rows.texts[-1][:40]))
except StepError as error:
    print(error.failure.dumps())
    sys.exit(42)
"""


def packed() -> bytes:
    """Half a gigabyte of zeros as 500 KB."""
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb") as writer:
        for _ in range(512):
            writer.write(b"\0" * (1 << 20))
    return stream.getvalue()


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../escape.csv", b"\0" * (64 << 20))
    return stream.getvalue()


def sparse(begin: bytes, size: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(begin)
        os.truncate(path, size)

    return write


def content(data: bytes | str) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data if isinstance(data, bytes) else data.encode()) and None


DATA = [
    ("NUL", "x.csv", content(GOOD + "a\0b,calm\n"), "NUL"),
    ("line of 100 MB", "x.csv", content(b"text,label\n" + b"a" * 100_000_000 + b",calm\n"), "line 2 has more than"),
    ("line of 1 GB", "x.jsonl", sparse(b'{"text": "', 1 << 30), "line 1 has more than"),
    ("quoted cell of 100 MB", "x.csv", content(b'text,label\n"' + b"a\n" * 50_000_000 + b'",calm\n'), "field"),
    ("file of 1 TB", "x.csv", sparse(GOOD.encode(), 1 << 40), str(1 << 40)),
    ("wrong columns", "x.csv", content("Text;Label\na;b\n"), "no 'text', 'label'; the columns are Text;Label"),
    ("column names that repaint the terminal", "x.csv", content("\x1b[2Jx,y\na,b\n"), "\\x1b[2Jx"),
    ("half a surrogate pair", "x.jsonl", content('{"text": "\\ud800", "label": "calm"}'), "surrogate"),
    ("nested too deeply", "x.jsonl", content('{"text":' * 100_000), "recursion"),
    ("a million rows too many", "x.csv", content("text,label\n" + "a,b\n" * 2_000_001), "more than 2000000 rows"),
    ("gzip bomb", "x.csv.gz", content(packed()), ".gz"),
    ("gzip bomb called csv", "x.csv", content(packed()), "utf-8"),
    ("zip bomb that climbs", "x.csv.zip", content(zipped()), ".zip"),
    ("zip called jsonl", "x.jsonl", content(zipped()), "x.jsonl"),
]


def read(build: Build, name: str, write: Callable[[Path], None]) -> bounded.Ran:
    path = build.places.claims / name
    write(path)
    return bounded.run(("-c", READ, f"pvc://data/{name}", str(path)), build.environment(), build.places.work / "run")


@pytest.mark.parametrize(("name", "write", "words"), [case[1:] for case in DATA], ids=[case[0] for case in DATA])
def test_harmful_data_is_refused_in_words_and_in_bounds(
    build: Build, name: str, write: Callable[[Path], None], words: str
) -> None:
    ran = read(build, name, write)
    ran.require_bounds()
    assert ran.code == 42, ran.output
    failure = json.loads(ran.output)
    assert failure["reason"] == "DatasetInvalid"
    assert failure["field"] == "spec.engine.gates.evaluation.dataset"
    assert "not packed" in failure["remedy"]
    assert words in failure["message"]


def test_formulas_are_text_like_any_other(build: Build) -> None:
    ran = read(build, "x.csv", content('text,label\n"=HYPERLINK(""http://x"",""a"")",calm\n'))
    ran.require_bounds()
    assert ran.code == 0, ran.output
    assert "=HYPERLINK" in ran.output


def changed(folder: Path, **tensors: Any) -> None:
    """Puts tensors beside or in place of the checkpoint's own."""
    save_file({**load_file(folder / SINGLE), **tensors}, folder / SINGLE, metadata={"format": "pt"})


def zero_size(folder: Path) -> None:
    changed(folder, **{"bert.encoder.layer.0.output.dense.bias": np.zeros((0,), np.float32)})


def other_shape(folder: Path) -> None:
    changed(folder, **{"classifier.weight": np.zeros((7, 32), np.float32)})


def heads_that_do_not_divide(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text()) | {"num_attention_heads": 5}
    (folder / "config.json").write_text(json.dumps(config))


def vocabulary_elsewhere(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "vocab_file": "/etc/passwd"}')


def vocabulary_too_long(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n" + "".join(f"w{i}\n" for i in range(5000)))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (zero_size, ""),
        (other_shape, "classifier.weight"),
        (heads_that_do_not_divide, "heads"),
        (vocabulary_elsewhere, "vocab_file"),
        (vocabulary_too_long, "rows"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_only_shows_when_the_model_is_loaded_is_refused_too(
    build: Build, harm: Callable[[Path], None], words: str
) -> None:
    folder = small_bert(build.places.claims / "models/v1", transformers.BertForSequenceClassification)
    harm(folder)
    request = build.request("pvc://models/v1", "text-classification", shapes={"maxBatchSize": 8, "maxTokens": 32})
    assert build.step("fetch", request=request).returncode == 0
    ran = bounded.run(
        ("-m", "tapchanger_serving.build", "export"), build.environment(request), build.places.work.parent / "run"
    )
    # PyTorch alone takes most of this.
    ran.require_bounds(2 * bounded.MEMORY_MIB)
    assert ran.code == 42, ran.output
    assert build.failure().reason in ("CheckpointInvalid", "CheckpointIncomplete", "ModelUnsupported")
    assert build.failure().remedy
    assert words in build.failure().message
