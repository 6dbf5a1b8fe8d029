"""What the tests of serving share: the fields of a small artifact, and an engine that answers by arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tapchanger_serving.contract.messages import Hardware

FIELDS: dict[str, Any] = {
    "task": "text-classification",
    "runtime": "openvino",
    "precision": "fp32",
    "engine": "model.xml",
    "inputs": ("input_ids", "attention_mask"),
    "output": "logits",
    "dimensions": 2,
    "max_tokens": 16,
    "max_batch_size": 4,
    "labels": ("even", "odd"),
    "hardware": Hardware(arch="amd64"),
}


class SumEngine:
    """Logits by hand: `[-s, s]` with s = 1 where the sum of a text's token ids is odd, else -1. Keeps its batches."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []

    def run(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        ids = feeds["input_ids"]
        self.batches.append((ids.shape[0], ids.shape[1]))
        odd = ((ids * feeds["attention_mask"]).sum(axis=1) % 2 == 1).astype(np.float32)
        return np.stack([1 - 2 * odd, 2 * odd - 1], axis=1)

    def close(self) -> None:
        """Nothing to free."""
