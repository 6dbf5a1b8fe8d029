"""What step `export` leaves for step `measure`: the graph, the tokenizer, and these facts in `model.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tapchanger_serving.contract.artifact import Pooling
from tapchanger_serving.contract.base import Message
from tapchanger_serving.contract.messages import Task

FACTS = "model.json"
GRAPH = "model.onnx"
REFERENCE = "reference.npz"


def graph_of(precision: str) -> str:
    """The graph's file for a precision: GPUs also get graphs in fp16 and bf16."""
    return GRAPH if precision == "fp32" else f"model-{precision}.onnx"


class Exported(Message):
    """The exported model."""

    task: Task
    inputs: tuple[str, ...]
    output: str
    dimensions: int
    max_tokens: int
    max_batch_size: int
    labels: tuple[str, ...] = ()
    activation: Literal["softmax", "sigmoid"] = "softmax"
    pooling: Pooling | None = None
    parameters: int

    @property
    def pooling_or_default(self) -> Pooling:
        """The pooling of feature extraction."""
        return self.pooling or Pooling()

    @property
    def multi_label(self) -> bool:
        """Whether a text may have several labels at once."""
        return self.task == "text-classification" and self.activation == "sigmoid" and self.dimensions > 1

    def write(self, folder: Path) -> None:
        """Writes `model.json`."""
        (folder / FACTS).write_text(self.dumps(), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Exported:
        """Reads `model.json`."""
        return cls.model_validate_json((folder / FACTS).read_text(encoding="utf-8"))
