"""Checkpoints made to harm the builder: each is refused in words, or read safely, in bounded memory and time."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import transformers
from safetensors.numpy import load_file, save_file

from tapchanger_serving.build.weights import INDEX, SINGLE
from tests.support import bounded
from tests.support.small_builds import Build, small_bert

Harm = Callable[[Path], None]
CLASSIFY = "text-classification"
EMBEDDING = "bert.embeddings.word_embeddings.weight"
LABELS = {0: "calm", 1: "angry"}


@dataclass(frozen=True)
class Case:
    """What is done to a good checkpoint, the reason that it is refused for (None: it is not), and words of the message."""

    name: str
    harm: Harm
    reason: str | None = "CheckpointInvalid"
    words: tuple[str, ...] = ()


def raw_header(folder: Path, header: bytes, data: int = 0, length: int | None = None) -> None:
    """Writes a safetensors file by hand; `data` zero bytes follow the header, without taking disk space."""
    path = folder / SINGLE
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header)
    os.truncate(path, 8 + len(header) + data)


def header(folder: Path, tensors: dict[str, Any], data: int = 0) -> None:
    raw_header(folder, json.dumps(tensors).encode(), data)


def tensor(shape: list[Any], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def header_of(value: Any, data: int = 0) -> Harm:
    return lambda folder: header(folder, value, data)


def config(**changes: Any) -> Harm:
    def harm(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return harm


def bytes_of(name: str, content: bytes) -> Harm:
    return lambda folder: (folder / name).write_bytes(content) and None


def sparse(name: str, begin: bytes, size: int) -> Harm:
    def harm(folder: Path) -> None:
        (folder / name).write_bytes(begin)
        os.truncate(folder / name, size)

    return harm


def weight(value: float) -> Harm:
    def harm(folder: Path) -> None:
        tensors = {name: array.copy() for name, array in load_file(folder / SINGLE).items()}
        tensors[EMBEDDING][3, 7] = value
        save_file(tensors, folder / SINGLE, metadata={"format": "pt"})

    return harm


def pickled(name: str) -> Harm:
    def harm(folder: Path) -> None:
        (folder / SINGLE).unlink()
        (folder / name).write_bytes(pickle.dumps({"weight": [1.0] * 100}))

    return harm


def linked(name: str, target: str) -> Harm:
    def harm(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return harm


def folder_link(folder: Path) -> None:
    outside = folder.parent / "elsewhere"
    outside.mkdir()
    (outside / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (folder / "modules.json").write_text('[{"type": "sentence_transformers.models.Pooling"}]')
    (folder / "1_Pooling").symlink_to(outside)


def link_chain(folder: Path) -> None:
    (folder.parent / "secret").write_text("{}")
    (folder / "b").symlink_to(folder.parent / "secret")
    linked("config.json", "b")(folder)


def link_inside(folder: Path) -> None:
    (folder / "config.json").rename(folder / "real.json")
    (folder / "config.json").symlink_to("real.json")


def pipe(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


def index(*names: str, tensor_name: str = EMBEDDING) -> Harm:
    def harm(folder: Path) -> None:
        placed = {f"{tensor_name}{number or ''}": name for number, name in enumerate(names)}
        (folder / INDEX).write_text(json.dumps({"weight_map": placed}))

    return harm


def shards_twice(folder: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        (folder / name).write_bytes((folder / SINGLE).read_bytes())
    index("a.safetensors", "b.safetensors")(folder)


def tokenizer(**changes: Any) -> Harm:
    def harm(folder: Path) -> None:
        path = folder / "tokenizer.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return harm


def huge_vocabulary(folder: Path) -> None:
    vocabulary = ",".join(f'"{number:x}":{number}' for number in range(2_500_000))
    (folder / "tokenizer.json").write_text(
        '{"version":"1.0","model":{"type":"WordPiece","unk_token":"0","continuing_subword_prefix":"##",'
        f'"max_input_chars_per_word":100,"vocab":{{{vocabulary}}}}}}}'
    )


def ids_beyond(folder: Path) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"]["late"] = 4_000_000_000
    path.write_text(json.dumps(content))


def vocabulary_elsewhere(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "vocab_file": "/etc/passwd"}')


def crowded(folder: Path) -> None:
    for number in range(5000):
        (folder / f"note-{number}.txt").touch()
    (folder / os.fsdecode(b"\xff\n\x1b[31m.bin")).write_bytes(b"")
    (folder / SINGLE).unlink()


def escaping_name(folder: Path) -> None:
    (folder / SINGLE).rename(folder / "pytorch\n\x1b[2J\u202emodel.bin")


REGEX = {"type": "Split", "pattern": {"Regex": "(a+)+(b+)+$|((a|aa|b?)+)+#"}, "behavior": "Isolated", "invert": False}
GROWING = {
    "type": "Sequence",
    "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}] * 4,
}
NESTED_NORMALIZER = '{"type":"Sequence","normalizers":[' * 5000 + "]}" * 5000
CLS = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}
FIRST, SECOND = ({"Sequence": {"id": name, "type_id": number}} for number, name in enumerate("AB"))
FULL = {
    "type": "TemplateProcessing",
    "single": [*[CLS] * 5000, FIRST],
    "pair": [FIRST, SECOND],
    "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}},
}

CASES = (
    Case("huge shape", header_of({"w": tensor([10**9, 10**9], 0, 64)}, 64), words=("tensor w",)),
    Case("huge shape over a sparse file", header_of({"w": tensor([1 << 38], 0, 1 << 40)}, 1 << 40), words=("bytes",)),
    Case("a million dimensions", header_of({"w": tensor([3] * 1_000_000, 0, 64)}, 64), words=("tensor w",)),
    Case("negative shape", header_of({"w": tensor([-1, -16], 0, 64)}, 64), words=("[-1, -16]",)),
    Case("shape of text", header_of({"w": tensor(["4", True], 0, 64)}, 64), words=("tensor w",)),
    Case("length of the header beyond the file", lambda f: raw_header(f, b"{}", 0, 1 << 62), "CheckpointIncomplete"),
    Case("header of 1 GB", lambda f: raw_header(f, b" " * 64, 1 << 30, 1 << 30), words=("header",)),
    Case("overlapping offsets", header_of({"a": tensor([16], 0, 64), "b": tensor([16], 32, 96)}, 96), words=("overlap",)),
    Case("gap between tensors", header_of({"a": tensor([16], 0, 64), "b": tensor([16], 80, 144)}, 144), words=("gap",)),
    Case("offsets outside the file", header_of({"w": tensor([1 << 20], 0, 4 << 20)}, 64), "CheckpointIncomplete"),
    Case("offsets backwards", header_of({"w": tensor([16], 64, 0)}, 64), words=("tensor w",)),
    Case("truncated", lambda f: os.truncate(f / SINGLE, (f / SINGLE).stat().st_size - 1), "CheckpointIncomplete", ("cut",)),
    Case("tensor twice", lambda f: raw_header(f, b'{"w":%s,"w":%s}' % ((json.dumps(tensor([1], 0, 4)).encode(),) * 2), 4),
         words=("twice",)),
    Case("unknown dtype", header_of({"w": tensor([16], 0, 64, "F33")}, 64), words=("F33",)),
    Case("integer weights", header_of({"x.weight": tensor([8, 8], 0, 64, "I8")}, 64), words=("I8", "x.weight")),
    Case("header nested too deeply", lambda f: raw_header(f, b'{"w":' + b"[" * 100_000), words=("deeply",)),
    Case("NaN weight", weight(float("nan")), words=(EMBEDDING, "NaN")),
    Case("infinite weight", weight(float("-inf")), words=(EMBEDDING, "infinite")),
    Case("pickle only", pickled("pytorch_model.bin"), "PickleCheckpoint", ("pytorch_model.bin",)),
    Case("pickle called safetensors", pickled(SINGLE), "PickleCheckpoint", (SINGLE,)),
    Case("file linked out of the folder", linked("config.json", "/etc/hostname"), words=("/etc/hostname",)),
    Case("environment linked as weights", linked(SINGLE, "/proc/self/environ"), words=("/proc",)),
    Case("chain of links out of the folder", link_chain, words=("leads out",)),
    Case("link in a circle", linked("config.json", "config.json"), words=("circle",)),
    Case("link to nothing", linked("tokenizer.json", "gone.json"), words=("nothing",)),
    Case("link inside the folder", link_inside, None),
    Case("device as weights", linked(SINGLE, "/dev/zero"), words=("/dev/zero",)),
    Case("pipe as configuration", pipe, words=("pipe",)),
    Case("absolute path in the index", index("/etc/passwd"), "CheckpointIncomplete", ("/etc/passwd",)),
    Case("path that climbs in the index", index("../x/model.safetensors"), "CheckpointIncomplete", ("../x",)),
    Case("newline in a shard's name", index("a\nb.safetensors"), "CheckpointIncomplete", ("a\\nb",)),
    Case("missing shard", index("model-00001-of-00002.safetensors"), "CheckpointIncomplete", ("not in the folder",)),
    Case("index of numbers", bytes_of(INDEX, b'{"weight_map": {"w": 5}}'), "CheckpointIncomplete", ("5",)),
    Case("tensor in two shards", shards_twice, words=("in both",)),
    Case("index that names a tensor of no shard", index(SINGLE, tensor_name="ghost"), words=("ghost",)),
    Case("auto_map", config(auto_map={"AutoModel": "evil.Evil"}), "RemoteCode", ("auto_map",)),
    Case("trust_remote_code", config(trust_remote_code=True), "RemoteCode", ("trust_remote_code",)),
    Case("auto_map of the tokenizer", bytes_of("tokenizer_config.json", b'{"auto_map": {"AutoTokenizer": ["x.X", null]}}'),
         "RemoteCode", ("tokenizer_config.json",)),
    Case("unknown architecture", config(architectures=["Evil\n" * 1000]), "TaskMismatch"),
    Case("architectures of another type", config(architectures={"0": "BertModel"}), "CheckpointIncomplete"),
    Case("quantized before", config(quantization_config={"quant_method": "bitsandbytes"}), "ModelUnsupported"),
    Case("configuration of 1 GB", sparse("config.json", b"{", 1 << 30), words=(str(1 << 30),)),
    Case("configuration of 1 GB of brackets", sparse("config.json", b"[" * 1000, 1 << 30), words=("bytes",)),
    Case("16 MiB of empty lists", bytes_of("config.json", b'{"x":[' + b"[]," * 5_000_000 + b"[]]}"), "CheckpointIncomplete",
         ("values",)),
    Case("configuration nested too deeply", bytes_of("config.json", b'{"a":' * 200_000), "CheckpointIncomplete", ("deeply",)),
    Case("key twice", bytes_of("config.json", b'{"architectures": ["A"], "architectures": ["B"]}'), "CheckpointIncomplete",
         ("twice",)),
    Case("number of a million digits", bytes_of("config.json", b'{"a": ' + b"9" * 1_000_000 + b"}"), "CheckpointIncomplete"),
    Case("not UTF-8", bytes_of("config.json", b'{"a": "\xff\xfe"}'), "CheckpointIncomplete", ("utf-8",)),
    Case("UTF-16", bytes_of("config.json", '{"a": 1}'.encode("utf-16")), "CheckpointIncomplete"),
    Case("byte order mark", bytes_of("config.json", b"\xef\xbb\xbf{}"), "CheckpointIncomplete", ("BOM",)),
    Case("a million labels", config(id2label={str(number): "x" for number in range(1_000_000)}), words=("labels",)),
    Case("10^12 labels", config(id2label=None, num_labels=10**12), words=("num_labels",)),
    Case("label with control characters", config(id2label={"0": "a\n\x1b[31m", "1": "b"}), words=("control",)),
    Case("label of 1 MB", config(id2label={"0": "a" * 1_000_000, "1": "b"}), words=("characters",)),
    Case("label ids of text", config(id2label={"zero": "a", "one": "b"}), words=("id2label",)),
    Case("label that is an object", config(id2label={"0": {"a": 1}, "1": "b"}), words=("label 0",)),
    Case("10^9 layers", config(num_hidden_layers=10**9), words=("num_hidden_layers",)),
    Case("hidden size of none", config(hidden_size=0), words=("hidden_size 0",)),
    Case("negative heads", config(num_attention_heads=-2), words=("num_attention_heads -2",)),
    Case("hidden size of text", config(hidden_size="32"), words=("hidden_size",)),
    Case("feed-forward wider than any tensor", config(intermediate_size=10**12), words=("intermediate_size",)),
    Case("more positions than rows", config(max_position_embeddings=1_000_000), words=("position_embeddings",)),
    Case("10^15 positions", config(max_position_embeddings=10**15), words=("max_position_embeddings",)),
    Case("vocabulary larger than the embedding", config(vocab_size=10**6), words=("vocab_size",)),
    Case("tokenizer of 2.5 million words", huge_vocabulary, words=("tokenizer.json",)),
    Case("tokenizer of 1 GB", sparse("tokenizer.json", b"{", 1 << 30), words=("tokenizer.json", "bytes")),
    Case("ids beyond the embedding", ids_beyond, words=("4000000000", "rows")),
    Case("pattern that backtracks without end", tokenizer(pre_tokenizer=REGEX), words=("tokenizer.json",)),
    Case("normalizer that makes terabytes", tokenizer(normalizer=GROWING), words=("tokenizer.json",)),
    Case("tokenizer nested too deeply", bytes_of("tokenizer.json", f'{{"normalizer":{NESTED_NORMALIZER}}}'.encode()),
         words=("tokenizer.json",)),
    Case("more special tokens than the model takes", tokenizer(post_processor=FULL), words=("tokenizer.json",)),
    Case("tokenizer that is no tokenizer", bytes_of("tokenizer.json", b"[1, 2, 3]"), words=("tokenizer.json",)),
    Case("thousands of files and a name of bytes", crowded, "PickleCheckpoint", ("\\udcff\\n\\x1b",)),
    Case("file name that repaints the terminal", escaping_name, "PickleCheckpoint", ("\\n\\x1b[2J\\u202e",)),
)  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that is built as it is."""
    folder = tmp_path_factory.mktemp("hostile") / "good"
    return small_bert(folder, transformers.BertForSequenceClassification, id2label=LABELS, num_labels=2)


@pytest.fixture
def checkpoint(good: Path, build: Build) -> Path:
    """A copy of it to harm."""
    folder = build.places.claims / "models/v1"
    folder.mkdir(parents=True)
    for path in good.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def inspect(build: Build, task: str = CLASSIFY) -> bounded.Ran:
    arguments = ("-m", "tapchanger_serving.build", "inspect", "--uri", "pvc://models/v1", "--task", task)
    return bounded.run(arguments, build.environment(), build.places.work.parent / "run")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_harmful_checkpoint_is_refused_in_words_and_in_bounds(build: Build, checkpoint: Path, case: Case) -> None:
    case.harm(checkpoint)
    ran = inspect(build)
    ran.require_bounds()
    if case.reason is None:
        assert ran.code == 0, ran.output
        return
    assert ran.code == 42, ran.output
    failure = build.failure()
    assert failure.reason == case.reason, failure
    assert failure.field in ("spec.model.uri", "spec.model.task")
    assert failure.remedy
    assert all(word in failure.message for word in case.words), failure
    assert failure.message.isprintable()


def test_a_good_checkpoint_passes(build: Build, checkpoint: Path) -> None:
    assert checkpoint.is_dir()
    ran = inspect(build)
    ran.require_bounds()
    assert ran.code == 0, ran.output


def test_a_folder_linked_out_of_the_checkpoint_is_refused(build: Build, checkpoint: Path) -> None:
    folder_link(checkpoint)
    config(architectures=["BertModel"])(checkpoint)
    ran = inspect(build, "feature-extraction")
    ran.require_bounds()
    assert ran.code == 42, ran.output
    assert build.failure().reason == "CheckpointInvalid"
    assert "1_Pooling" in build.failure().message
