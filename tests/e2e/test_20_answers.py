"""Answers through the router are those of PyTorch, in the shape that clients rely on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from dev.common.deployment import Deployment
from dev.common.inference import GrpcClient, Reply, ask_http
from dev.common.kubectl import Kubectl
from dev.common.stack import SYSTEM, Stack
from dev.common.waiting import until
from tapchanger_serving.contract.names import OBSERVER_API_PORT
from tapchanger_serving.contract.windows import RevisionWindow, Windows
from tests.e2e.support import MAX_TOKENS, First, in_batches, report


@pytest.fixture(scope="module")
def client(moderation: First, begun: dict[str, Deployment], leaving: Deployment) -> Iterator[GrpcClient]:
    """A connection to the first model. All that later tests need is begun by now."""
    with GrpcClient(moderation[0].address()[0]) as opened:
        yield opened


@pytest.fixture(scope="module")
def expected(stack: Stack, texts: list[str]) -> tuple[list[str], np.ndarray]:
    """PyTorch's labels and scores for the thousand texts."""
    folder = stack.models / "moderation-v1"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    rows = []
    with torch.inference_mode():
        for start in range(0, len(texts), 50):
            batch = tokenizer(
                texts[start : start + 50], padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
            )
            rows.append(model(**batch).logits.softmax(-1).numpy())
    scores = np.concatenate(rows)
    return [model.config.id2label[int(index)] for index in scores.argmax(-1)], scores


@pytest.mark.parametrize("protocol", ["gRPC", "HTTP"])
def test_labels_agree_with_pytorch_on_a_thousand_texts(
    moderation: First,
    client: GrpcClient,
    kubectl: Kubectl,
    texts: list[str],
    expected: tuple[list[str], np.ndarray],
    protocol: str,
    words: Callable[[str], None],
) -> None:
    deployment, _ = moderation
    http = deployment.address()[1]

    def ask(batch: list[str]) -> Reply:
        return client.ask("moderation", batch) if protocol == "gRPC" else ask_http(http, "moderation", batch)

    answers = in_batches(texts, ask)
    labels, scores = expected
    agreement = float(np.mean(answers["label"].reshape(-1) == np.array(labels)))
    difference = float(np.abs(answers["scores"].astype(float) - scores).max())
    chosen = report(kubectl, deployment)["chosen"]
    words(
        f"agreement with PyTorch on 1,000 texts, {protocol}: {agreement}, largest difference of scores {difference:.4f}"
    )
    assert agreement >= 0.995
    assert agreement == pytest.approx(chosen["agreement"], abs=0.004)
    assert difference <= max(2 * chosen["maxDifference"], 0.02)


def test_the_answer_has_label_score_and_scores_and_names_its_revision(
    moderation: First, client: GrpcClient, texts: list[str]
) -> None:
    deployment, _ = moderation
    for reply in (client.ask("moderation", texts[:3]), ask_http(deployment.address()[1], "moderation", texts[:3])):
        assert reply.outputs["label"].reshape(-1).shape == (3,)
        assert set(reply.outputs["label"].reshape(-1)) <= {"safe", "unsafe"}
        assert reply.outputs["scores"].shape == (3, 2)
        assert np.allclose(reply.outputs["scores"].astype(float).sum(-1), 1.0, atol=1e-3)
        best = reply.outputs["scores"].astype(float).max(-1)
        assert np.allclose(reply.outputs["score"].astype(float).reshape(-1), best, atol=1e-6)
        assert reply.revision == deployment.status()["stable"]["revision"]


def test_the_models_describe_themselves(client: GrpcClient) -> None:
    text_model = client.metadata("moderation")
    assert {(i.name, i.datatype) for i in text_model.inputs} == {("text", "BYTES"), ("text_pair", "BYTES")}
    outputs = {o.name: o.datatype for o in text_model.outputs}
    assert outputs == {"label": "BYTES", "score": "FP32", "scores": "FP32"}
    raw = client.metadata("moderation-engine")
    assert {i.name for i in raw.inputs} >= {"input_ids", "attention_mask"}
    assert {o.name for o in raw.outputs} == {"logits"}


def test_a_client_that_tokenizes_itself_gets_the_same_answer_from_the_raw_engine(
    stack: Stack, client: GrpcClient, texts: list[str]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(stack.models / "moderation-v1")
    tokens = tokenizer(texts[:4], padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="np")
    wanted = {i.name for i in client.metadata("moderation-engine").inputs}
    inputs = {name: values.astype(np.int64) for name, values in tokens.items() if name in wanted}
    logits = client.infer("moderation-engine", inputs).outputs["logits"]
    scores = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert np.allclose(scores, client.ask("moderation", texts[:4]).outputs["scores"], atol=0.02)


def test_every_phase_of_the_first_build_was_told_in_words(moderation: First) -> None:
    _, told = moderation
    text = "\n".join(told)
    later = told[1:] if told and not told[0] else told
    assert all(later), f"a phase without a sentence: {told}"
    for phase in (
        "reading pvc://models/moderation-v1",
        "recording PyTorch's answers",
        "measuring the candidates",
        "servers of .* are starting",
        "serves all requests",
    ):
        assert re.search(phase, text), f"{phase!r} was never told:\n{text}"


def test_get_and_describe_tell_how_it_is(moderation: First, kubectl: Kubectl) -> None:
    deployment, _ = moderation
    table = kubectl("get", "tdep", "moderation", "-n", deployment.namespace)
    header, row = table.splitlines()
    for column in ("READY", "STABLE", "CANARY", "WEIGHT", "P99", "DRIFT", "AGE"):
        assert column in header
    assert "serves all requests" in row
    assert deployment.status()["stable"]["revision"] in row
    described = kubectl("describe", "tdep", "moderation", "-n", deployment.namespace)
    for part in ("Ready", "Built", "Serving", "Progressing", "times PyTorch", "Events:"):
        assert part in described
    builds = kubectl("get", "eb", "-n", deployment.namespace)
    assert "Ready" in builds
    assert re.search(r"\d\.\d\dx", builds)


def test_server_spans_tell_where_requests_spent_their_time_and_on_which_node(
    moderation: First, client: GrpcClient, kubectl: Kubectl, texts: list[str]
) -> None:
    deployment = moderation[0]
    in_batches(texts, lambda batch: client.ask(deployment.name, batch))
    service = kubectl.get("service", "tapchanger-observer", SYSTEM)
    assert service is not None
    address = f"http://{service['spec']['clusterIP']}:{OBSERVER_API_PORT}/v1/windows"
    query = {"namespace": deployment.namespace, "deployment": deployment.name}

    def joined() -> RevisionWindow | None:
        windows = Windows.model_validate_json(httpx.get(address, params=query).raise_for_status().content)
        return next((window for window in windows.revisions if window.stages.joined), None)

    seen = until("spans of servers and routers at the observer", joined, 30)
    parts = [seen.stages.queue, seen.stages.pre, seen.stages.compute, seen.stages.post, seen.stages.network]
    assert all(part is not None and 0 <= part < 60 for part in parts), seen.stages
    assert seen.stages.compute
    assert seen.stages.tokens
    assert seen.lengths
    nodes = {item["metadata"]["name"] for item in kubectl.items("node", None)}
    assert {one.node for one in seen.nodes} <= nodes
    assert seen.nodes
