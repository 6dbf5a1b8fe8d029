"""Every family and every task it has a head for: fetched, exported, and answered by each CPU runtime as PyTorch answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import transformers

from tapchanger_serving.build.answers import answers, compare
from tapchanger_serving.build.candidates import Bench, plan
from tapchanger_serving.build.conversion import convert
from tapchanger_serving.build.exported import REFERENCE, Exported
from tapchanger_serving.build.fetch import fetch
from tapchanger_serving.build.inspection import inspect
from tapchanger_serving.build.textset import Encoded, load_texts
from tapchanger_serving.contract.messages import BuildRequest, Shapes
from tapchanger_serving.engines import open_engine
from tapchanger_serving.engines.text import TOKENIZER_FILE, Tokenizer
from tests.support.families import FAMILIES, HEADS, Family, small_checkpoint
from tests.support.small_builds import Build

LABELS = {0: "O", 1: "B-place", 2: "I-place"}
CASES = [(family, task) for family in FAMILIES for task in HEADS]
SHAPES = Shapes(max_batch_size=8, max_tokens=32)


def request_of(build: Build, task: str, **fields: Any) -> BuildRequest:
    uri = "pvc://models/small"
    found = inspect(uri, task, build.places)
    return BuildRequest(
        name=build.name, uri=uri, digest=found.digest, task=task, shapes=SHAPES, hardware=found.hardware, **fields
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(("family", "task"), CASES, ids=[f"{family.name}-{task}" for family, task in CASES])
def test_each_runtime_answers_as_pytorch_does(build: Build, family: Family, task: str) -> None:
    labels = {} if task == "feature-extraction" else {"id2label": LABELS, "num_labels": len(LABELS)}
    folder = small_checkpoint(build.places.claims / "models" / "small", family, task, **labels)
    request = request_of(build, task)
    fetch(request, build.places)
    convert(request, build.places)

    places = build.places
    model = Exported.read(places.exported)
    tokenizer = Tokenizer(places.exported / TOKENIZER_FILE, model.inputs, model.max_tokens)
    rows = load_texts(request, None, tokenizer, model.max_tokens)
    texts = Encoded.of(tokenizer, rows, model.max_batch_size)
    reference = np.load(places.exported / REFERENCE)["answers"]
    if task == "text-classification":
        own = transformers.pipeline(
            task, str(folder), tokenizer=fast(folder), truncation=True, max_length=32, top_k=None
        )
        told = [{one["label"]: one["score"] for one in row} for row in own(list(rows.texts[:20]))]
        expected = [[row[LABELS[index]] for index in range(len(LABELS))] for row in told]
        assert reference[:20] == pytest.approx(np.array(expected), abs=1e-4)
    bench = Bench(places.exported, places.candidates, model, request.hardware, texts)
    for recipe in plan(request, request.hardware):
        if recipe.precision != "fp32":
            continue
        engine = open_engine(recipe.make(bench).spec)
        found = compare(answers(engine.run, texts, model), reference, model)
        engine.close()
        assert found.max_difference is not None
        assert found.max_difference < 1e-3, recipe.name
        if found.agreement is None:
            assert (found.cosine or 0.0) > 0.9999, (recipe.name, found)
        else:
            others = round((1 - found.agreement) * found.count)
            assert others <= ties(reference, within=2 * found.max_difference), (recipe.name, found)


def ties(scores: np.ndarray[Any, Any], within: float) -> int:
    """Rows whose two best scores are so close that a difference of half of that in each may change the label."""
    best = np.sort(scores, axis=-1)
    return int((best[:, -1] - best[:, -2] <= within).sum())


def fast(folder: Any) -> transformers.PreTrainedTokenizerFast:
    """The folder's tokenizer by itself, padding with the token of that name."""
    loaded = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / TOKENIZER_FILE))
    pads = [token for token in ("[PAD]", "<pad>") if token in loaded.get_vocab()]
    loaded.pad_token = pads[0]
    return loaded
