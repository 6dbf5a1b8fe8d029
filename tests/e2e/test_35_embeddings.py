"""Embeddings through the router are those of PyTorch. Their engine takes longest to build, so it is asked for late."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from dev.common.deployment import Deployment
from dev.common.inference import GrpcClient
from dev.common.kubectl import Kubectl
from dev.common.stack import Stack
from tests.e2e.support import MAX_TOKENS, in_batches, report


def test_embeddings_point_where_pytorchs_do(
    stack: Stack, kubectl: Kubectl, begun: dict[str, Deployment], texts: list[str], words: Callable[[str], None]
) -> None:
    deployment = begun["embedding"]
    deployment.wait_ready(600)
    with GrpcClient(deployment.address()[0]) as client:
        answers = in_batches(texts, lambda batch: client.ask("embedding", batch))["embedding"]
    chosen = report(kubectl, deployment)["chosen"]
    reference = embeddings(stack, texts)
    assert answers.shape == reference.shape == (len(texts), 384)
    norms = np.linalg.norm(answers, axis=-1) * np.linalg.norm(reference, axis=-1)
    cosine = float(np.mean((answers * reference).sum(-1) / norms))
    words(
        f"mean cosine of embeddings to PyTorch on 1,000 texts: {cosine:.6f} ({chosen['runtime']} {chosen['precision']})"
    )
    assert cosine >= 0.999
    assert cosine == pytest.approx(chosen["cosine"], abs=0.001)


def embeddings(stack: Stack, texts: list[str]) -> np.ndarray:
    """PyTorch's embeddings: the mean of the states of a text's tokens."""
    folder = stack.models / "minilm"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    rows = []
    with torch.inference_mode():
        for start in range(0, len(texts), 50):
            batch = tokenizer(
                texts[start : start + 50], padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
            )
            states, mask = model(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1)
            rows.append(((states * mask).sum(1) / mask.sum(1)).numpy())
    return np.concatenate(rows)
