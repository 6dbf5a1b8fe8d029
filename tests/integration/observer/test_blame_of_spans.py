"""From real work to the sentence: a text model's spans, by OTLP, through the observer's windows, to a blame."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from multidict import MultiDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models, normalizers, pre_tokenizers

from dev.fixtures import slow_tokenizer
from tapchanger_operator.decide.blame import blame
from tapchanger_operator.decide.evidence import Objective
from tapchanger_serving.backends.batch import Texts, answer_each
from tapchanger_serving.backends.tracing import Traced, Tracer
from tapchanger_serving.contract.artifact import Artifact
from tapchanger_serving.contract.windows import RevisionWindow
from tapchanger_serving.engines.answers import TextModel
from tapchanger_serving.engines.text import Tokenizer
from tapchanger_serving.observer import api, wire
from tapchanger_serving.observer.ingest import Ingest
from tapchanger_serving.observer.spans import Span
from tapchanger_serving.observer.windows import Windows
from tests.support.small_serving import FIELDS, SumEngine

NANO = 1_000_000_000
OBJECTIVE = Objective("95% within 30ms", "latency", 0.95, 0.03)
SHORT, LONG = "a b c", "a b c d " * 120
KEYS = {"tapchanger.namespace": "default", "tapchanger.deployment": "moderation"}


class Quadratic(SumEngine):
    """Works as long for a text as its tokens squared, as attention does: a quarter of a second for 512.

    What other programs on the machine add to any other stage is little beside that.
    """

    def run(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        until = time.perf_counter() + 1e-6 * feeds["input_ids"].shape[1] ** 2
        while time.perf_counter() < until:
            pass
        return super().run(feeds)


def model(folder: Path, engine: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> TextModel:
    rust = RustTokenizer(models.WordLevel({"[UNK]": 0, **{c: i + 1 for i, c in enumerate("abcd")}}, unk_token="[UNK]"))
    rust.normalizer, rust.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(change(json.loads(rust.to_str()))))
    artifact = Artifact(**{**FIELDS, "max_tokens": 512, "files": ()})
    return TextModel(artifact, Tokenizer(file, artifact.inputs, artifact.max_tokens), engine)


def served(taker: Ingest, revision: str, text_model: TextModel, texts: list[str], waiting: float = 0.0) -> None:
    """Answers each text as a server does, after a wait of so many seconds; the router's spans are made up around it."""
    exporter = InMemorySpanExporter()
    own = {**KEYS, "tapchanger.revision": revision, "tapchanger.component": "server", "k8s.node.name": "node-a"}
    provider = TracerProvider(resource=Resource(own), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = Tracer(provider, "moderation")
    chance = random.Random(revision)
    routers = []
    for text in texts:
        trace, parent = chance.randbytes(16), chance.randbytes(8)
        text_model.watch.start()
        (answer,) = answer_each(text_model, [Texts((text,))], failed=pytest.fail)
        phases = text_model.watch.stop()
        start = phases.begin - round(waiting * NANO) - 2_000_000
        headers = {
            "traceparent": f"00-{trace.hex()}-{parent.hex()}-01",
            "x-request-start": f"t={start // NANO}.{start % NANO:09d}",
        }
        tracer.record([Traced(headers, failed=False, tokens=answer.tokens)], phases, 1)
        attributes = {**KEYS, "tapchanger.revision": revision, "tapchanger.component": "router"}
        attributes |= {"http.status_code": "200", "response_flags": "-"}
        routers.append(Span(trace, parent, b"", "ingress", 2, start, phases.end + 1_000_000, attributes, ()))
    assert taker.take(wire.decode(encode_spans(exporter.get_finished_spans()).SerializeToString()), "http").refused == 0
    assert taker.take(routers, "grpc").refused == 0


def windows(taker: Ingest, store: Windows) -> tuple[RevisionWindow, RevisionWindow]:
    query = MultiDict([("namespace", "default"), ("deployment", "moderation"), ("latency", "0.03")])
    found = {one.revision: one for one in api.answer(store, query, time.time() + 1).revisions}
    return found["canary"], found["stable"]


@pytest.fixture
def observer() -> tuple[Ingest, Windows]:
    store = Windows()
    store.watch("default", "moderation", (0.03,))
    return Ingest(store, time.time), store


def same(tokenizer: dict[str, Any]) -> dict[str, Any]:
    return tokenizer


MIXED = [LONG if n % 4 == 0 else SHORT for n in range(40)]


def test_an_engine_that_is_slow_for_long_texts(observer: tuple[Ingest, Windows], tmp_path: Path) -> None:
    taker, store = observer
    served(taker, "stable", model(tmp_path, SumEngine(), same), MIXED)
    served(taker, "canary", model(tmp_path, Quadratic(), same), MIXED)
    canary, stable = windows(taker, store)
    found = blame(OBJECTIVE, canary, stable)
    assert found
    assert found.stage == "Compute"
    assert found.share > 0.8
    assert "texts of more than 4 tokens took" in found.message
    assert [length.up_to for length in canary.lengths] == [4, 512]
    assert canary.stages.joined == 40
    assert [(node.node, node.requests) for node in canary.nodes] == [("node-a", 40)]


def test_a_slow_tokenizer(observer: tuple[Ingest, Windows], tmp_path: Path) -> None:
    taker, store = observer
    served(taker, "stable", model(tmp_path, SumEngine(), same), MIXED)
    served(taker, "canary", model(tmp_path, SumEngine(), slow_tokenizer.slowed), MIXED)
    found = blame(OBJECTIVE, *windows(taker, store))
    assert found
    assert found.stage == "PreProcessing"
    assert found.share > 0.8


def test_a_queue(observer: tuple[Ingest, Windows], tmp_path: Path) -> None:
    taker, store = observer
    text_model = model(tmp_path, SumEngine(), same)
    served(taker, "stable", text_model, MIXED)
    served(taker, "canary", text_model, MIXED, waiting=0.2)
    found = blame(OBJECTIVE, *windows(taker, store))
    assert found
    assert found.stage == "Queue"
    assert found.share > 0.8


def test_spans_hold_nothing_of_a_text(observer: tuple[Ingest, Windows], tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    text_model = model(tmp_path, SumEngine(), same)
    text_model.watch.start()
    (answer,) = answer_each(text_model, [Texts(("confidential a b",))], failed=pytest.fail)
    traced = Traced({"x-request-start": "t=1"}, failed=False, tokens=answer.tokens)
    Tracer(provider, "moderation").record([traced], text_model.watch.stop(), 1)
    assert b"confidential" not in encode_spans(exporter.get_finished_spans()).SerializeToString()
