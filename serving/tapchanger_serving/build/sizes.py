"""Holds the sizes that config.json claims against the weights, so that no claim alone makes a build large or endless."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tapchanger_serving.build.files import invalid, shown
from tapchanger_serving.build.header import TensorInfo

_WIDTHS = (
    "hidden_size", "d_model", "dim", "n_embd", "embedding_size", "intermediate_size", "hidden_dim", "d_ff",
    "num_attention_heads", "n_heads", "n_head", "num_key_value_heads",
)  # fmt: skip
_LAYERS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers", "encoder_layers", "decoder_layers")
_POSITIONS = ("max_position_embeddings", "n_positions")
_POSITION_TENSORS = ("position_embeddings.weight", "wpe.weight")
_SHARED_LAYERS = 128
"""Layers may share their weights (ALBERT), so that there may be somewhat more of them than tensors."""
_LONGEST = 1 << 21
_REMEDY = "give config.json and weights that were saved together by save_pretrained"


def check_sizes(config: dict[str, Any], tensors: Sequence[TensorInfo]) -> None:
    """Raises `CheckpointInvalid` for a size that is no positive whole number or that the weights don't have."""
    widest = max((max(tensor.shape, default=1) for tensor in tensors), default=1)
    for key in _WIDTHS:
        _require_within(config, key, widest, "the largest tensor has {} in one direction")
    for key in _LAYERS:
        _require_within(config, key, max(len(tensors), _SHARED_LAYERS), "the weights could hold at most {}")
    for key in _POSITIONS:
        _require_within(config, key, _LONGEST, "at most {} are built")
    _require_rows(config, "vocab_size", tensors)
    _require_positions(config, tensors)


def _require_within(config: dict[str, Any], key: str, limit: int, why: str) -> None:
    value = config.get(key)
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise invalid(f"config.json has {key} {shown(value)}; it must be a whole number of at least 1", _REMEDY)
    if value > limit:
        raise invalid(f"config.json has {key} {shown(value)}, and {why.format(limit)}", _REMEDY)


def _require_rows(config: dict[str, Any], key: str, tensors: Sequence[TensorInfo]) -> None:
    """The embedding has a row for each entry of the vocabulary."""
    _require_within(config, key, 1 << 32, "at most {} are read")
    rows = config.get(key)
    heights = {tensor.shape[0] for tensor in tensors if len(tensor.shape) == 2}
    if rows is not None and rows not in heights:
        raise invalid(f"config.json has {key} {rows}, and no tensor of the weights has as many rows", _REMEDY)


def _require_positions(config: dict[str, Any], tensors: Sequence[TensorInfo]) -> None:
    for tensor in tensors:
        if not tensor.name.endswith(_POSITION_TENSORS) or len(tensor.shape) != 2:
            continue
        for key in _POSITIONS:
            claimed = config.get(key)
            if claimed is not None and claimed > tensor.shape[0]:
                raise invalid(
                    f"config.json has {key} {claimed}, and {shown(tensor.name)} has {tensor.shape[0]} rows", _REMEDY
                )
