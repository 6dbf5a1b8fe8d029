"""What a checkpoint folder is understood to be, and how a bad one is refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tapchanger_serving.build.checkpoint import read_checkpoint
from tapchanger_serving.build.digest import copy_tree, hash_tree
from tapchanger_serving.build.failures import StepError
from tapchanger_serving.contract.artifact import Pooling

CLASSIFY = "text-classification"
EMBED = "feature-extraction"
Make = Callable[..., Path]


def refusal(folder: Path, task: str = CLASSIFY) -> StepError:
    with pytest.raises(StepError) as caught:
        read_checkpoint(folder, task)
    return caught.value


def sentence_model(
    folder: Path, pooling: dict[str, Any], kinds: tuple[str, ...] = ("Transformer", "Pooling", "Normalize")
) -> Path:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    (folder / "modules.json").write_text(
        json.dumps([{"type": f"sentence_transformers.models.{kind}"} for kind in kinds])
    )
    return folder


def test_a_classifier_is_read_from_its_config_and_weight_header(make_checkpoint: Make) -> None:
    found = read_checkpoint(make_checkpoint(), CLASSIFY)
    assert found.architecture == "BertForSequenceClassification"
    assert found.labels == ("calm", "angry")
    assert found.activation == "softmax"
    assert found.max_tokens == 64
    assert found.weights.parameters == 18
    assert found.pooling is None
    assert set(found.files) == {"config.json", "model.safetensors", "tokenizer.json"}


def test_the_digest_is_what_the_shell_prints_for_the_files_that_matter(make_checkpoint: Make) -> None:
    found = read_checkpoint(make_checkpoint(), CLASSIFY)
    command = f"sha256sum {' '.join(found.files)} | LC_ALL=C sort | sha256sum | cut -d' ' -f1"
    printed = subprocess.run(
        ["bash", "-c", command], cwd=found.folder, capture_output=True, text=True, check=True
    ).stdout
    assert hash_tree(found.folder, found.files) == f"sha256:{printed.strip()}"


def test_a_copy_has_the_digest_of_the_original_and_nothing_else(make_checkpoint: Make, tmp_path: Path) -> None:
    found = read_checkpoint(make_checkpoint(), CLASSIFY)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/stale.json").write_text("{}")
    digest = copy_tree(found.folder, found.files, tmp_path / "copy")
    assert digest == hash_tree(found.folder, found.files)
    assert {path.name for path in (tmp_path / "copy").iterdir()} == set(found.files)


def test_other_files_do_not_change_the_digest_and_weights_do(make_checkpoint: Make) -> None:
    found = read_checkpoint(make_checkpoint(), CLASSIFY)
    before = hash_tree(found.folder, found.files)
    (found.folder / "README.md").write_text("changed")
    assert hash_tree(found.folder, found.files) == before
    save_file({"weight": np.ones((3, 5), np.float32)}, found.folder / "model.safetensors")
    assert hash_tree(found.folder, found.files) != before


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"id2label": None}, ("LABEL_0", "LABEL_1")),
        ({"id2label": None, "num_labels": 3}, ("LABEL_0", "LABEL_1", "LABEL_2")),
        ({"id2label": {str(i): f"c{i}" for i in range(12)}}, tuple(f"c{i}" for i in range(12))),
    ],
)
def test_labels_keep_the_order_of_their_ids(
    make_checkpoint: Make, config: dict[str, Any], expected: tuple[str, ...]
) -> None:
    assert read_checkpoint(make_checkpoint(**config), CLASSIFY).labels == expected


@pytest.mark.parametrize(
    "config",
    [{"problem_type": "multi_label_classification"}, {"id2label": {"0": "relevance"}}],
    ids=["multi-label", "one logit"],
)
def test_heads_that_score_each_label_by_itself_use_the_sigmoid(make_checkpoint: Make, config: dict[str, Any]) -> None:
    assert read_checkpoint(make_checkpoint(**config), CLASSIFY).activation == "sigmoid"


def test_the_token_limit_is_the_smallest_of_all_that_are_stated(make_checkpoint: Make) -> None:
    folder = sentence_model(make_checkpoint(architectures=["BertModel"]), {"pooling_mode_mean_tokens": True})
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 48}')
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 32}')
    assert read_checkpoint(folder, EMBED).max_tokens == 32
    (folder / "sentence_bert_config.json").unlink()
    assert read_checkpoint(folder, EMBED).max_tokens == 48
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 1000000000000000019884624838656}')
    assert read_checkpoint(folder, EMBED).max_tokens == 64


def test_roberta_loses_the_positions_below_its_padding_id(make_checkpoint: Make) -> None:
    folder = make_checkpoint(model_type="roberta", max_position_embeddings=514, pad_token_id=1)
    assert read_checkpoint(folder, CLASSIFY).max_tokens == 512


@pytest.mark.parametrize(
    ("config", "kinds", "expected"),
    [
        (
            {"pooling_mode_mean_tokens": True},
            ("Transformer", "Pooling", "Normalize"),
            Pooling(mode="mean", normalize=True),
        ),
        ({"pooling_mode_cls_token": True}, ("Transformer", "Pooling"), Pooling(mode="cls", normalize=False)),
        ({"pooling_mode_max_tokens": True}, ("Transformer", "Pooling"), Pooling(mode="max", normalize=False)),
        ({"pooling_mode": "cls"}, ("Transformer", "Pooling"), Pooling(mode="cls", normalize=False)),
    ],
)
def test_pooling_is_that_of_sentence_transformers(
    make_checkpoint: Make, config: dict[str, Any], kinds: tuple[str, ...], expected: Pooling
) -> None:
    folder = sentence_model(make_checkpoint(architectures=["BertModel"]), config, kinds)
    assert read_checkpoint(folder, EMBED).pooling == expected


def test_a_plain_encoder_is_pooled_by_its_mean(make_checkpoint: Make) -> None:
    assert read_checkpoint(make_checkpoint(architectures=["BertModel"]), EMBED).pooling == Pooling()


def test_modules_that_would_change_embeddings_are_refused(make_checkpoint: Make) -> None:
    folder = sentence_model(make_checkpoint(architectures=["BertModel"]), {}, ("Transformer", "Pooling", "Dense"))
    assert refusal(folder, EMBED).failure.reason == "ModuleUnsupported"


def test_pooling_that_no_server_offers_is_refused(make_checkpoint: Make) -> None:
    both = {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}
    folder = sentence_model(make_checkpoint(architectures=["BertModel"]), both)
    assert refusal(folder, EMBED).failure.reason == "ModuleUnsupported"


def test_a_missing_head_names_the_architecture_and_what_it_can_do(make_checkpoint: Make) -> None:
    failure = refusal(make_checkpoint(architectures=["BertForMaskedLM"])).failure
    assert failure.reason == "TaskMismatch"
    assert failure.field == "spec.model.task"
    assert "BertForMaskedLM" in failure.message
    assert "feature-extraction" in failure.message
    assert "feature-extraction" in (failure.remedy or "")


def test_an_encoder_decoder_gives_no_embeddings(make_checkpoint: Make) -> None:
    folder = make_checkpoint(architectures=["T5Model"], is_encoder_decoder=True)
    assert refusal(folder, EMBED).failure.reason == "TaskMismatch"


def test_text_generation_is_told_apart_from_a_wrong_checkpoint(make_checkpoint: Make) -> None:
    folder = make_checkpoint(architectures=["LlamaForCausalLM"])
    assert refusal(folder, "text-generation").failure.reason == "TaskUnsupported"
    assert refusal(folder, CLASSIFY).failure.reason == "TaskMismatch"


@pytest.mark.parametrize("pickled", ["pytorch_model.bin", "model.pt", "weights.pkl", "last.ckpt"])
def test_pickled_weights_are_refused_with_the_command_that_converts_them(make_checkpoint: Make, pickled: str) -> None:
    folder = make_checkpoint()
    (folder / "model.safetensors").rename(folder / pickled)
    failure = refusal(folder).failure
    assert failure.reason == "PickleCheckpoint"
    assert pickled in failure.message
    assert "AutoModelForSequenceClassification" in (failure.remedy or "")
    assert "save_pretrained" in (failure.remedy or "")


def test_safetensors_beside_pickles_are_taken(make_checkpoint: Make) -> None:
    folder = make_checkpoint()
    (folder / "pytorch_model.bin").write_bytes(b"x")
    assert "pytorch_model.bin" not in read_checkpoint(folder, CLASSIFY).files


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_custom_code_is_refused(make_checkpoint: Make, name: str) -> None:
    folder = make_checkpoint()
    content = json.loads((folder / "config.json").read_text()) | {"auto_map": {"AutoModel": "modeling_x.X"}}
    (folder / name).write_text(json.dumps(content))
    (folder / "modeling_x.py").write_text("")
    failure = refusal(folder).failure
    assert failure.reason == "RemoteCode"
    assert "modeling_x.py" in failure.message


@pytest.mark.parametrize(
    ("name", "word"),
    [("config.json", "config.json"), ("tokenizer.json", "tokenizer"), ("model.safetensors", "README.md")],
)
def test_a_missing_file_is_named(make_checkpoint: Make, name: str, word: str) -> None:
    folder = make_checkpoint()
    (folder / name).unlink()
    failure = refusal(folder).failure
    assert failure.reason == "CheckpointIncomplete"
    assert word in failure.message


def test_an_old_vocabulary_is_enough(make_checkpoint: Make) -> None:
    folder = make_checkpoint()
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    assert "vocab.txt" in read_checkpoint(folder, CLASSIFY).files


@pytest.mark.parametrize("cut", [4, 40, -1], ids=["in the length", "in the header", "in the data"])
def test_a_file_cut_short_is_noticed(make_checkpoint: Make, cut: int) -> None:
    path = make_checkpoint() / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    assert refusal(path.parent).failure.reason == "CheckpointIncomplete"


def test_shards_are_followed_and_a_missing_one_is_named(make_checkpoint: Make) -> None:
    folder = make_checkpoint()
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    save_file({"head": np.zeros(7, np.float32)}, folder / "model-00002-of-00002.safetensors")
    weights = {"weight": "model-00001-of-00002.safetensors", "head": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    found = read_checkpoint(folder, CLASSIFY)
    assert found.weights.parameters == 25
    assert "model.safetensors.index.json" in found.files
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors" in refusal(folder).failure.message


def test_an_index_may_not_lead_out_of_the_folder(make_checkpoint: Make) -> None:
    folder = make_checkpoint()
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"w": "../checkpoint/model.safetensors"}})
    )
    assert refusal(folder).failure.reason == "CheckpointIncomplete"


@pytest.mark.parametrize("text", ["{", "[]", "null"])
def test_a_broken_config_is_no_crash(make_checkpoint: Make, text: str) -> None:
    folder = make_checkpoint()
    (folder / "config.json").write_text(text)
    assert refusal(folder).failure.reason == "CheckpointIncomplete"
