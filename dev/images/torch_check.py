"""Checks that PyTorch computes and exports here as an engine build needs it, and leaves the bytecode of all it used."""

from __future__ import annotations

import numpy as np
import onnxruntime
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 100,
}


class Logits(torch.nn.Module):
    """The classifier without the wrapper around its answer."""

    def __init__(self, model: BertForSequenceClassification) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits `[batch, labels]`."""
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def main() -> None:
    """Raises when eager PyTorch and the exported model differ, or when anything on the way fails."""
    torch.manual_seed(0)
    assert BertModel(BertConfig(**SMALL)).num_parameters() > 0
    model = Logits(BertForSequenceClassification(BertConfig(**SMALL)).eval()).eval()
    ids, mask = torch.randint(0, 100, (2, 16)), torch.ones(2, 16, dtype=torch.int64)
    with torch.inference_mode():
        expected = model(ids, mask).numpy()
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    program = torch.onnx.export(
        model, (ids, mask), dynamo=True, dynamic_shapes=(axes, axes), input_names=["ids", "mask"], output_names=["out"]
    )
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    answer = session.run(None, {"ids": ids.numpy(), "mask": mask.numpy()})[0]
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    print(f"torch {torch.__version__} computes and exports; GPU: {torch.cuda.is_available()}")


if __name__ == "__main__":
    main()
