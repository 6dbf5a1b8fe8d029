"""Which matrix products lose most in int8: those whose inputs have outliers, which stretch the range for all other values.

That activations with a few large values are what makes transformers hard to quantize was found by Dettmers et al.,
"LLM.int8()" (2022), and Bondarenko et al., "Understanding and Overcoming the Challenges of
Efficient Transformer Quantization" (2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tapchanger_serving.engines.text import Tensors


def by_outliers(model: Any, samples: Sequence[Tensors]) -> list[str]:
    """Names of the products with constant weights in an OpenVINO model, the one with the worst outliers first.

    What is compared is the largest magnitude among a product's inputs over their root mean square, over all samples.
    """
    import openvino as ov

    model = model.clone()
    products = [node for node in model.get_ordered_ops() if _weighted(node)]
    inputs = [node.input(0).get_source_output() for node in products]
    names = [node.get_friendly_name() for node in products]
    first = len(model.outputs)
    distinct = list(dict.fromkeys(inputs))
    model.add_outputs(distinct)
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    peaks, squares, counts = (np.zeros(len(distinct)) for _ in range(3))
    for sample in samples:
        answers = compiled(sample)
        for place in range(len(distinct)):
            values = np.asarray(answers[first + place], dtype=np.float64)
            peaks[place] = max(peaks[place], np.abs(values).max())
            squares[place] += np.square(values).sum()
            counts[place] += values.size
    ratios = peaks / np.sqrt(np.maximum(squares / counts, 1e-30))
    ratio = {name: ratios[distinct.index(source)] for name, source in zip(names, inputs, strict=True)}
    return sorted(names, key=lambda name: -ratio[name])


def _weighted(node: Any) -> bool:
    """Whether a node is the product of an activation with weights; those of two activations have no constant side."""
    if node.get_type_name() != "MatMul":
        return False
    weights = node.input(1).get_source_output().get_node()
    while weights.get_type_name() in {"Convert", "Transpose", "Reshape"}:
        weights = weights.input(0).get_source_output().get_node()
    return bool(weights.get_type_name() == "Constant")
