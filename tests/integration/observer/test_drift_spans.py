"""From real answers to the verdict: a text model's spans, by OTLP over HTTP, through a real observer, to `status.drift`."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models, pre_tokenizers

from tapchanger_operator.api.drift import DriftSpec, DriftStatus
from tapchanger_operator.decide.drift.watch import watch
from tapchanger_serving.backends.batch import Texts, answer_each
from tapchanger_serving.backends.described import TextsTold
from tapchanger_serving.backends.tracing import Traced, Tracer
from tapchanger_serving.contract.artifact import Artifact
from tapchanger_serving.contract.drift import REFERENCE_FILE, DriftWindow
from tapchanger_serving.engines.answers import TextModel
from tapchanger_serving.engines.features import Describer, Known, Vocabulary, reference
from tapchanger_serving.engines.phases import Phases
from tapchanger_serving.engines.text import Tokenizer
from tests.support.patience import PATIENCE
from tests.support.ports import free_ports
from tests.support.small_serving import FIELDS, SumEngine

NANO = 10**9
WORDS = 600
KEYS = {"tapchanger.namespace": "default", "tapchanger.deployment": "moderation", "tapchanger.revision": "r1"}
SPEC = DriftSpec(reference="evaluation", false_alarm_every="2h")


def model(folder: Path) -> TextModel:
    words = {"[UNK]": 0, **{f"w{number}": number + 1 for number in range(WORDS)}}
    rust = RustTokenizer(models.WordLevel(words, unk_token="[UNK]"))
    rust.pre_tokenizer = pre_tokenizers.Whitespace()
    rust.save(str(folder / "tokenizer.json"))
    artifact = Artifact(**{**FIELDS, "max_tokens": 128, "files": ()})
    return TextModel(artifact, Tokenizer(folder / "tokenizer.json", artifact.inputs, 128), SumEngine())


def text(rng: random.Random, first: int = 0) -> str:
    """A dozen words, the early ones of the vocabulary from `first` on more often."""
    return " ".join(f"w{first + min(int(rng.expovariate(1 / 60)), 299)}" for _ in range(12))


def described(served: TextModel, folder: Path, texts: list[str]) -> None:
    """The artifact's file as the build makes it."""
    encodings = served.tokenize(texts)
    answers = served.answer(texts, encodings)
    documents = np.zeros(WORDS + 1, dtype=np.int64)
    for encoding in encodings:
        documents[np.unique(encoding.ids)] += 1
    vocabulary = Vocabulary.of(documents, len(texts))
    describer = Describer.of(served.tokenizer, vocabulary)
    told = [describer.describe(one, encodings[row], answers, row) for row, one in enumerate(texts)]
    (folder / REFERENCE_FILE).write_text(Known(reference(told, None, np.array([])), vocabulary).dumps())


@pytest.fixture
def observer(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """A process of its own; its ports for OTLP over HTTP and for questions."""
    grpc, otlp, api = free_ports(3)
    names = {"GRPC_PORT": grpc, "HTTP_PORT": otlp, "API_PORT": api, "HOST": "127.0.0.1", "AUTH": "open"}
    env = os.environ | {"PYTHONPATH": "serving"} | {f"TAPCHANGER_OBSERVER_{name}": str(v) for name, v in names.items()}
    process = subprocess.Popen([sys.executable, "-m", "tapchanger_serving.observer"], env=env)
    try:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                if httpx.get(f"http://127.0.0.1:{api}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        yield otlp, api
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def test_texts_on_something_else_are_noticed_and_none_of_them_leaves_the_server(
    observer: tuple[int, int], tmp_path: Path
) -> None:
    otlp, api = observer
    rng, served = random.Random(1), model(tmp_path)
    described(served, tmp_path, [text(rng) for _ in range(1500)])
    begin = int(time.time()) // 10 * 10 - 400
    clock = [float(begin)]
    known = Known.read(tmp_path)
    assert known
    telling = TextsTold(Describer.of(served.tokenizer, known.vocabulary), known, lambda: clock[0])
    provider = TracerProvider(resource=Resource({**KEYS, "tapchanger.component": "server"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"http://127.0.0.1:{otlp}/v1/traces")))
    tracer = Tracer(provider, "moderation")

    def ask(seconds: float, what: str) -> None:
        clock[0] = begin + seconds
        (answer,) = answer_each(served, [Texts((what,))], failed=pytest.fail)
        assert isinstance(answer.outcome, dict)
        end = round(clock[0] * NANO)
        phases = Phases(end - 3_000_000, end - 2_000_000, end - 1_000_000, end, 1_000_000, 1_000_000, 1_000_000)
        tell = partial(telling.attributes, [what], answer.encodings, answer.outcome)
        tracer.record([Traced({"x-request-start": f"t={end // NANO}"}, False, 12, answer.outcome, tell)], phases, 1)

    def look(before: DriftStatus | None, until: float) -> DriftStatus:
        provider.force_flush()
        since = begin if before is None else before.state["until"]
        asked = {"namespace": "default", "deployment": "moderation", "revision": "r1", "since": str(since)}
        reply = httpx.get(f"http://127.0.0.1:{api}/v1/drift", params=asked, timeout=PATIENCE)
        assert reply.status_code == 200, reply.text
        window = DriftWindow.model_validate_json(reply.content)
        assert window.reference == known.reference
        return watch(SPEC, before, "r1", window, evaluated=True, now=until)

    for second in range(200):
        ask(second, text(rng))
        ask(second + 0.5, text(rng))
    ask(200, "w1 w2 w3")
    ask(201, "w3 w2 w1")
    quiet = look(None, begin + 210)
    assert (quiet.verdict, quiet.texts, quiet.repeats) == ("none", 401, 1)
    for second in range(210, 330):
        ask(second, text(rng, first=280))
        ask(second + 0.5, text(rng, first=280))
    # The first question took all steps that had ended; the next one goes on where it stopped.
    found = look(quiet.model_copy(update={"state": {**quiet.state, "until": begin + 210}}), begin + 340)
    assert found.verdict == "vocabulary"
    assert found.since
    assert found.texts == 641
    provider.shutdown()
