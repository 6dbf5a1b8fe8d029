"""The teacher's answers to the texts that the student learns from, each asked for once as long as memory for them lasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from tapchanger_serving.build.distill.losses import Objective
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.build.torch_model import Headed
from tapchanger_serving.contract.names import ATTENTION_MASK

_KEPT_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Batch:
    """Some texts as tensors `[batch, tokens]` in the order of the model's inputs, and how many units each has."""

    rows: tuple[int, ...]
    inputs: tuple[torch.Tensor, ...]
    mask: torch.Tensor
    counts: list[int]


@dataclass
class Teacher:
    """Answers texts by their number. `kept_bytes` is how much memory its answers may take."""

    headed: Headed
    texts: Encoded
    objective: Objective
    device: str = "cpu"
    kept_bytes: int = _KEPT_BYTES
    _kept: dict[int, torch.Tensor] = field(default_factory=dict)

    def batch(self, rows: Sequence[int]) -> Batch:
        """The texts `rows`, padded to the longest of them."""
        feeds = self.texts.take(np.array(rows, dtype=np.intp))
        tensors = self.texts.tokenizer.pad(feeds.encodings)
        placed = {name: torch.from_numpy(tensor).to(self.device) for name, tensor in tensors.items()}
        mask = placed[ATTENTION_MASK]
        inputs = tuple(placed[name] for name in self.headed.inputs)
        return Batch(tuple(rows), inputs, mask, self.objective.counts(mask))

    def answers(self, batch: Batch) -> torch.Tensor:
        """The teacher's outputs `[units, figures]` to a batch."""
        if all(row in self._kept for row in batch.rows):
            return torch.cat([self._kept[row] for row in batch.rows]).to(self.device)
        with torch.no_grad():
            found = self.objective.units(self.headed(*batch.inputs), batch.mask)
        for row, answer in zip(batch.rows, torch.split(found.cpu(), batch.counts), strict=True):
            size = answer.numel() * answer.element_size()
            if row not in self._kept and size <= self.kept_bytes:
                self.kept_bytes -= size
                self._kept[row] = answer.clone()
        return found
