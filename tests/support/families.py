"""Small checkpoints with random weights, one for each family that the builder is held to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from tests.support.small_builds import SENTENCES, word_pieces

SHAPE = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
POSITIONS = 66


def byte_pieces(folder: Path) -> Tokenizer:
    """A small byte-level BPE tokenizer with `<s>` 0, `<pad>` 1 and `</s>` 2, as RoBERTa's is numbered."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet())  # fmt: skip
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


def sentence_pieces(folder: Path) -> Tokenizer:
    """A small unigram tokenizer with marked blanks, as DeBERTa-v2's is."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="[UNK]", show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


@dataclass(frozen=True)
class Family:
    """The classes of a family begin with `name`; `settings` make its configuration small."""

    name: str
    tokenizer: Callable[[Path], Tokenizer]
    settings: dict[str, Any]


BASE = {**SHAPE, "max_position_embeddings": POSITIONS}
RELATIVE = {
    "type_vocab_size": 0, "relative_attention": True, "position_buckets": 16, "pos_att_type": ["p2c", "c2p"],
    "share_att_key": True, "norm_rel_ebd": "layer_norm", "position_biased_input": False,
}  # fmt: skip
"""How DeBERTa-v2 and -v3 attend to positions."""
ALTERNATING = {
    "num_hidden_layers": 2, "local_attention": 8, "global_attn_every_n_layers": 2, "pad_token_id": 1,
    "bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2,
}  # fmt: skip
"""ModernBERT's layers, one with global and one with local attention."""
FAMILIES = (
    Family("Bert", word_pieces, BASE),
    Family("Roberta", byte_pieces, {**BASE, "type_vocab_size": 1, "pad_token_id": 1}),
    Family(
        "DistilBert",
        word_pieces,
        {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": POSITIONS},
    ),
    Family("DebertaV2", sentence_pieces, {**BASE, **RELATIVE}),
    Family("Electra", word_pieces, {**BASE, "embedding_size": 16}),
    Family("MPNet", word_pieces, {**BASE, "pad_token_id": 0}),
    Family("ModernBert", byte_pieces, {**BASE, **ALTERNATING}),
)

HEADS = {
    "text-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "feature-extraction": "Model",
}


def small_checkpoint(folder: Path, family: Family, task: str, **config: Any) -> Path:
    """A checkpoint of the family with a head for the task and its tokenizer."""
    folder.mkdir(parents=True)
    vocabulary = family.tokenizer(folder).get_vocab_size()
    # The families' own classes would add special tokens of other names than these tokenizers have.
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    torch.manual_seed(1)
    settings = getattr(transformers, f"{family.name}Config")(
        vocab_size=vocabulary, initializer_range=0.4, **family.settings, **config
    )
    getattr(transformers, f"{family.name}{HEADS[task]}")(settings).save_pretrained(folder)
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)
    return folder
