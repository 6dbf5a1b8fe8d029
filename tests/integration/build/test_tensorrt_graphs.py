"""The graphs that TensorRT gets, as far as a CPU can tell: valid, strongly typed, and with answers like PyTorch's.

A strongly typed network takes each number format from the graph, so that a missing cast is an error there and not a slow layer.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import torch
import transformers
from onnx import TensorProto, numpy_helper

from tapchanger_serving.build.candidates.base import Bench
from tapchanger_serving.build.candidates.tensorrt import quantized_graph
from tapchanger_serving.build.dataset import Rows
from tapchanger_serving.build.exported import GRAPH, graph_of
from tapchanger_serving.build.graph import HALVES, export_graph
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.build.torch_model import load_torch
from tapchanger_serving.contract.messages import Gpu, Hardware
from tapchanger_serving.contract.names import LOGITS
from tapchanger_serving.engines.text import Tokenizer
from tests.support.small_builds import SENTENCES, small_bert

GPU = Hardware(arch="amd64", gpu=Gpu(product="NVIDIA L4", compute_capability="8.9", driver="580"))
FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}
KINDS = {
    "fp16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
    "int8": TensorProto.FLOAT16,
    "fp8": TensorProto.FLOAT16,
}
SMALL = {"int8": TensorProto.INT8, "fp8": TensorProto.FLOAT8E4M3FN}


@dataclass(frozen=True)
class Graphs:
    """Where the graph of each precision lies, and texts to run them on."""

    files: dict[str, Path]
    texts: Encoded

    def answers(self, precision: str) -> npt.NDArray[np.float32]:
        """ONNX Runtime's answers on the CPU, one text at a time."""
        session = ort.InferenceSession(str(self.files[precision]), providers=["CPUExecutionProvider"])
        encodings = self.texts.encodings
        return np.concatenate([session.run(None, self.texts.tokenizer.pad([encoding]))[0] for encoding in encodings])


TOPICS = [sentence.replace(",", "").split() for sentence in SENTENCES[1:]]


def labelled(count: int, seed: int) -> list[tuple[str, int]]:
    """Texts of 3 to 40 words, most of which are about the label's topic."""
    pick = np.random.default_rng(seed)
    every = [word for topic in TOPICS for word in topic]
    found = []
    for _ in range(count):
        label, size = int(pick.integers(len(TOPICS))), int(pick.integers(3, 40))
        words = [pick.choice(TOPICS[label] if pick.random() < 0.7 else every) for _ in range(size)]
        found.append((" ".join(words), label))
    return found


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in one order, however many threads other tests have left: the same model comes out each time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def teach(checkpoint: Path) -> None:
    """Trains the model a little: only of a model that knows something do labels say how good a number format is."""
    model = transformers.BertForSequenceClassification.from_pretrained(checkpoint).train()
    tokenizer = Tokenizer(checkpoint / "tokenizer.json", ("input_ids", "attention_mask", "token_type_ids"), 64)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    torch.manual_seed(0)
    rows = labelled(32 * 120, seed=0)
    for start in range(0, len(rows), 32):
        texts, labels = zip(*rows[start : start + 32], strict=True)
        feeds = tokenizer.pad(tokenizer.tokenize(list(texts), offsets=False))
        answer = model(
            **{name: torch.from_numpy(tensor) for name, tensor in feeds.items()}, labels=torch.tensor(labels)
        )
        optimizer.zero_grad()
        answer.loss.backward()
        optimizer.step()
    model.eval().save_pretrained(checkpoint)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Graphs:
    """A small classifier, exported as a build for a GPU exports it, and quantized as its candidates are."""
    folder = tmp_path_factory.mktemp("tensorrt")
    checkpoint = small_bert(folder / "checkpoint", transformers.BertForSequenceClassification, num_labels=len(TOPICS))
    with one_thread():
        teach(checkpoint)
    model = load_torch(checkpoint, "text-classification", attention="eager")
    export_graph(model.headed, folder / GRAPH, LOGITS, max_tokens=64)
    for precision, kind in HALVES.items():
        half = copy.deepcopy(model.headed).to(kind)
        export_graph(half, folder / graph_of(precision), LOGITS, max_tokens=64)
    tokenizer = Tokenizer(checkpoint / "tokenizer.json", model.headed.inputs, 64)
    texts = tuple(text for text, _ in labelled(1040, seed=1))
    calibration = Encoded.of(tokenizer, Rows(texts=texts[:40]), 8)
    facts: Any = SimpleNamespace(inputs=model.headed.inputs)
    bench = Bench(folder, folder / "candidates", facts, GPU, calibration)
    files = {precision: folder / graph_of(precision) for precision in ("fp32", *HALVES)}
    files |= {precision: quantized_graph(bench, precision) for precision in SMALL}
    return Graphs(files, Encoded.of(tokenizer, Rows(texts=texts[40:]), 8))


def typed(path: Path) -> tuple[onnx.ModelProto, dict[str, int]]:
    """The graph, valid and with its types inferred node by node; a node whose inputs differ in type is an error."""
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.shape_inference.infer_shapes(onnx.load(path), check_type=True, strict_mode=True)
    graph = model.graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in [*graph.value_info, *graph.input, *graph.output]}
    kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return model, kinds


@pytest.mark.parametrize("precision", KINDS)
def test_all_arithmetic_is_in_the_graphs_own_format(graphs: Graphs, precision: str) -> None:
    """No tensor is left in another floating-point format but the answer, which a cast at the end makes fp32."""
    model, kinds = typed(graphs.files[precision])
    assert {name for node in model.graph.node for name in node.output} <= kinds.keys()
    others = {name for name, kind in kinds.items() if kind in FLOATS - {KINDS[precision]}}
    assert others == {LOGITS}
    (last,) = [node for node in model.graph.node if LOGITS in node.output]
    assert last.op_type == "Cast"


@pytest.mark.parametrize("precision", SMALL)
def test_every_product_with_weights_reads_eight_bits_and_has_zero_points_of_zero(
    graphs: Graphs, precision: str
) -> None:
    model, kinds = typed(graphs.files[precision])
    made = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    eights = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    assert {kinds[node.input[0]] for node in eights} == {SMALL[precision]}
    reading = [node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in made]
    products = [node for node in reading if made[node.input[1]].op_type == "DequantizeLinear"]
    # Query, key, value, what follows attention, and two of the feed-forward layer.
    assert len(products) == 6
    assert all(made[node.input[0]].op_type == "DequantizeLinear" for node in products)
    for node in eights:
        scale, zero = (constants[name] for name in node.input[1:])
        assert not numpy_helper.to_array(zero).astype(np.float32).any()
        assert scale.dims == zero.dims


@pytest.mark.parametrize(("precision", "least"), [("fp16", 0.99), ("int8", 0.97), ("fp8", 0.95)])
def test_labels_agree_with_those_of_fp32(graphs: Graphs, precision: str, least: float) -> None:
    """ONNX Runtime has no bf16 arithmetic on CPUs."""
    wanted, found = graphs.answers("fp32"), graphs.answers(precision)
    assert min(np.bincount(wanted.argmax(axis=1), minlength=len(TOPICS))) > 30
    agreement = float(np.mean(wanted.argmax(axis=1) == found.argmax(axis=1)))
    assert agreement >= least
