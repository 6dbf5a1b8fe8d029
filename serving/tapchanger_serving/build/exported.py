"""What step `export` leaves for step `measure`: the graph, the tokenizer, and these facts in `model.json`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tapchanger_serving.contract.artifact import Pooling
from tapchanger_serving.contract.base import Message
from tapchanger_serving.contract.messages import Task

if TYPE_CHECKING:
    import onnx

FACTS = "model.json"
GRAPH = "model.onnx"
REFERENCE = "reference.npz"

EXTERNAL_FROM = 1_500_000_000
"""ONNX files end at 2 GB: bigger models keep their weights in a file beside the graph."""


def graph_of(precision: str) -> str:
    """The graph's file for a precision: GPUs also get graphs in fp16 and bf16, and what is made of these."""
    return GRAPH if precision == "fp32" else f"model-{precision}.onnx"


def save_graph(model: onnx.ModelProto, target: Path) -> None:
    """Writes a graph, with its weights beside it where they are too large for one file."""
    import onnx

    large = model.ByteSize() > EXTERNAL_FROM
    onnx.save(model, target, save_as_external_data=large, location=f"{target.name}.data" if large else None)


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
