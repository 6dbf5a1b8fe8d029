"""Says when another pooling would agree better with the labels: the usual fault of embeddings that disagree with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import numpy as np

from tapchanger_serving.build.answers import Forward, outputs
from tapchanger_serving.build.dataset import Rows, evenly
from tapchanger_serving.build.exported import Exported
from tapchanger_serving.build.gates.paired import paired
from tapchanger_serving.build.gates.resampling import figure
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.contract.artifact import PoolingMode
from tapchanger_serving.contract.messages import GateResult
from tapchanger_serving.engines.text import Tokenizer

_PAIRS = 200


def with_advice(
    results: list[GateResult], original: Callable[[], Forward], model: Exported, rows: Rows, tokenizer: Tokenizer
) -> list[GateResult]:
    """Failed rank correlations get the pooling in use in their detail, and a better one if PyTorch has it."""
    if all(result.passed or result.value is None or not result.name.startswith("spearman") for result in results):
        return results
    used = model.pooling_or_default.mode
    values = _correlations(original, model, rows, tokenizer)
    best = max(values, key=lambda mode: values[mode])
    words = f"pooling {used}, as the checkpoint's 1_Pooling/config.json has it"
    if values[best] > values[used]:
        words += f"; {best} pooling would have {values[best]:.4f} where {used} has {values[used]:.4f}"
    return [
        result.model_copy(update={"detail": f"{result.detail}; {words}" if result.detail else words})
        if result.name.startswith("spearman") and not result.passed and result.value is not None
        else result
        for result in results
    ]


def _correlations(
    original: Callable[[], Forward], model: Exported, rows: Rows, tokenizer: Tokenizer
) -> dict[PoolingMode, float]:
    """PyTorch's rank correlation with each pooling on some of the pairs; -1 where it is not defined."""
    picked = evenly(len(rows), _PAIRS)
    labels, pairs = rows.labels or (), rows.pairs or ()
    some = replace(
        rows, texts=tuple(rows.texts[at] for at in picked), pairs=tuple(pairs[at] for at in picked), labels=None
    )
    forward, encoded = original(), Encoded.of(tokenizer, some, model.max_batch_size, apart=True)
    found: dict[PoolingMode, float] = {}
    for mode in get_args(PoolingMode):
        pooling = model.pooling_or_default.model_copy(update={"mode": mode})
        embeddings = outputs(forward, encoded, model.model_copy(update={"pooling": pooling}))
        sample = paired([labels[at] for at in picked], embeddings)
        found[mode] = float(np.nan_to_num(figure(sample.statistic("spearman"), len(sample)), nan=-1.0))
    return found
