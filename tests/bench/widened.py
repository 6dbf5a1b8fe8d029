"""A classifier of DistilBERT's size and shape with weights that were trained.

Random layers multiply small differences, so that no reduced precision holds a gate that trained ones hold easily. So MiniLM in
DistilBERT's form, of half its width, is fine-tuned on the moderation data for one epoch (a minute or two), and then widened
without changing what it computes: each hidden unit stands twice, and what the next layer reads of it is shared out unevenly
between the two (Net2WiderNet of Chen, Goodfellow and Shlens, 2016, "Net2Net"). That makes six layers of 768 with twelve heads
of 64, as DistilBERT has.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
import transformers

from dev.common import stack as stacks
from tapchanger_serving.contract.names import ATTENTION_MASK, INPUT_IDS
from tapchanger_serving.engines.text import TOKENIZER_FILE, Tokenizer

_HEADS: Final = 12
_BATCH, _TOKENS, _RATE = 16, 64, 1e-4
_LABELS: Final = ("safe", "unsafe")

_LAYER: Final = {
    "attention.q_lin": "attention.self.query",
    "attention.k_lin": "attention.self.key",
    "attention.v_lin": "attention.self.value",
    "attention.out_lin": "attention.output.dense",
    "sa_layer_norm": "attention.output.LayerNorm",
    "ffn.lin1": "intermediate.dense",
    "ffn.lin2": "output.dense",
    "output_layer_norm": "output.LayerNorm",
}
"""DistilBERT's name for a part of a layer, with BERT's."""
_PROJECTIONS: Final = tuple(f"attention.{name}" for name in ("q_lin", "k_lin", "v_lin"))


def place(folder: Path) -> None:
    """Writes the checkpoint and its tokenizer into a folder that is not there yet."""
    folder.mkdir(parents=True)
    source = stacks.own_stack().models / "minilm"
    shutil.copy(source / TOKENIZER_FILE, folder / TOKENIZER_FILE)
    torch.manual_seed(1)
    narrow = _model(hidden=384)
    narrow.distilbert.load_state_dict(_from_bert(transformers.BertModel.from_pretrained(source)))
    _fine_tune(narrow, Tokenizer(folder / TOKENIZER_FILE, (INPUT_IDS, ATTENTION_MASK), _TOKENS))
    wide = _model(hidden=768)
    wide.load_state_dict(_widened(narrow.state_dict()))
    wide.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)


def _model(hidden: int) -> Any:
    config = transformers.DistilBertConfig(
        dim=hidden, hidden_dim=4 * hidden, n_layers=6, n_heads=_HEADS, id2label=dict(enumerate(_LABELS))
    )
    return transformers.DistilBertForSequenceClassification(config).eval()


def _from_bert(bert: Any) -> dict[str, torch.Tensor]:
    """DistilBERT's tensors by name. It knows no segments: that of a single text goes into the words' embedding."""
    have = bert.state_dict()
    segment = have["embeddings.token_type_embeddings.weight"][:1]
    found = {
        "embeddings.word_embeddings.weight": have["embeddings.word_embeddings.weight"] + segment,
        "embeddings.position_embeddings.weight": have["embeddings.position_embeddings.weight"],
    }
    for kind in ("weight", "bias"):
        found[f"embeddings.LayerNorm.{kind}"] = have[f"embeddings.LayerNorm.{kind}"]
        for index in range(bert.config.num_hidden_layers):
            for new, old in _LAYER.items():
                found[f"transformer.layer.{index}.{new}.{kind}"] = have[f"encoder.layer.{index}.{old}.{kind}"]
    return found


def _fine_tune(model: Any, tokenizer: Tokenizer) -> None:
    with (stacks.own_stack().models / "data" / "moderation" / "evaluation.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE)
    order = torch.randperm(len(rows)).tolist()
    steps = [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=len(steps))
    right = 0
    model.train()
    for step in steps:
        fed = tokenizer.pad(tokenizer.tokenize([rows[row]["text"] for row in step], offsets=False))
        labels = torch.tensor([_LABELS.index(rows[row]["label"]) for row in step])
        answer = model(**{name: torch.from_numpy(tensor) for name, tensor in fed.items()}, labels=labels)
        right += int((answer.logits.argmax(dim=1) == labels).sum())
        answer.loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval()
    print(f"  fine-tuned on {len(rows)} texts, {right / len(rows):.3f} right before each was learned from", flush=True)


def _widened(narrow: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a model of twice the width that computes the same."""
    random = torch.Generator().manual_seed(1)
    found = {}
    for name, tensor in narrow.items():
        part, kind = name.rsplit(".", 1)
        if "_embeddings" in part:
            found[name] = _twice(tensor.T).T.contiguous()
            continue
        matrix = kind == "weight" and tensor.dim() == 2
        wide = _shared(tensor, random, _HEADS if part.endswith("out_lin") else 1) if matrix else tensor
        if part != "classifier":
            wide = _twice(wide, _HEADS if part.endswith(_PROJECTIONS) else 1)
        # A score has twice as many products, and is divided by the root of a head's width.
        found[name] = wide * 2**-0.5 if part.endswith("q_lin") else wide
    return found


def _twice(tensor: torch.Tensor, heads: int = 1) -> torch.Tensor:
    """float[out, …] as float[2·out, …], where each unit stands twice within its head."""
    split = tensor.reshape(heads, -1, *tensor.shape[1:])
    return torch.cat([split, split], dim=1).reshape(2 * tensor.shape[0], *tensor.shape[1:])


def _shared(weight: torch.Tensor, random: torch.Generator, heads: int = 1) -> torch.Tensor:
    """float[out, in] as float[out, 2·in]: the two copies of a unit, in one head, add up to what it was."""
    out, width = weight.shape
    first = 0.3 + 0.4 * torch.rand(1, heads, width // heads, generator=random)
    split = weight.reshape(out, heads, -1)
    return torch.cat([split * first, split * (1 - first)], dim=2).reshape(out, 2 * width)
