"""What Triton calls: requests in, responses out, and nothing of a text in an error. Triton itself is a stand-in here."""

from __future__ import annotations

import importlib
import json
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapchanger_serving.engines import answers
from tests.support.small_serving import SumEngine


@dataclass
class Tensor:
    """As Triton's."""

    name: str
    array: np.ndarray

    def as_numpy(self) -> np.ndarray:
        return self.array


class TritonError(Exception):
    """As Triton's, with two of its codes."""

    INTERNAL, INVALID_ARG = 1, 2

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Response:
    """As Triton's."""

    output_tensors: list[Tensor] = field(default_factory=list)
    error: TritonError | None = None

    def outputs(self) -> dict[str, np.ndarray]:
        assert self.error is None
        return {tensor.name: tensor.array for tensor in self.output_tensors}


@dataclass
class Request:
    """As Triton's."""

    tensors: Mapping[str, np.ndarray]
    wanted: tuple[str, ...] = ("label", "score", "scores")

    def requested_output_names(self) -> tuple[str, ...]:
        return self.wanted

    def parameters(self) -> str:
        return ""


def _input(request: Request, name: str) -> Tensor | None:
    found = request.tensors.get(name)
    return None if found is None else Tensor(name, found)


@pytest.fixture(autouse=True)
def triton(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module that Triton's stub brings, for as long as a test lasts."""
    module = types.ModuleType("triton_python_backend_utils")
    module.__dict__.update(
        Tensor=Tensor, TritonError=TritonError, InferenceResponse=Response, get_input_tensor_by_name=_input
    )
    monkeypatch.setitem(sys.modules, module.__name__, module)
    names = [f"tapchanger_serving.backends.{name}" for name in ("text", "engine")]
    yield
    for name in names:
        sys.modules.pop(name, None)


Make = Callable[..., tuple[Path, str]]


def loaded(kind: str, make_artifact: Make, tokenizer: Path, engine: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The model of backend module `kind`, initialized from an artifact as Triton would."""
    store, digest = make_artifact({"model.xml": b"", "tokenizer.json": tokenizer.read_bytes()})
    folder = store / "artifacts" / digest.replace(":", "-")
    version = folder.parent / "model" / "1"
    version.parent.mkdir()
    folder.rename(version)
    module = importlib.import_module(f"tapchanger_serving.backends.{kind}")
    monkeypatch.setattr(answers if kind == "text" else module, "open_engine", lambda spec: engine)
    model = module.TritonPythonModel()
    model.initialize({"model_repository": str(version.parent), "model_version": "1", "model_name": "moderation"})
    return model


def texts(*rows: bytes) -> dict[str, np.ndarray]:
    return {"text": np.array([[row] for row in rows], dtype=np.object_)}


def test_each_request_gets_its_own_rows(
    make_artifact: Make, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded("text", make_artifact, tokenizer_file, SumEngine(), monkeypatch)
    first, second = model.execute([Request(texts(b"a", b"b")), Request(texts(b"a"))])
    assert first.outputs()["label"].tolist() == [[b"odd"], [b"even"]]
    assert second.outputs()["label"].tolist() == [[b"odd"]]
    assert second.outputs()["scores"].shape == (1, 2)


def test_only_the_outputs_that_were_asked_for_are_sent(
    make_artifact: Make, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded("text", make_artifact, tokenizer_file, SumEngine(), monkeypatch)
    (response,) = model.execute([Request(texts(b"a"), wanted=("score",))])
    assert set(response.outputs()) == {"score"}


def test_a_text_that_is_not_utf8_is_refused_and_the_others_are_answered(
    make_artifact: Make, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded("text", make_artifact, tokenizer_file, SumEngine(), monkeypatch)
    bad, pair, fine = model.execute(
        [
            Request(texts(b"\xff")),
            Request({**texts(b"a"), "text_pair": np.array([[b"\xff"]], object)}),
            Request(texts(b"a")),
        ]
    )
    assert bad.error.code == pair.error.code == TritonError.INVALID_ARG
    assert str(pair.error).startswith("text_pair: row 0 is not UTF-8")
    assert fine.outputs()["label"].tolist() == [[b"odd"]]


class Fragile(SumEngine):
    """Fails on the token of the letter j."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        if (feeds["input_ids"] == 13).any():
            raise RuntimeError("secret j")
        return super().run(feeds)


def test_an_engine_that_fails_on_one_text_fails_that_request_and_is_logged_once(
    make_artifact: Make, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = loaded("text", make_artifact, tokenizer_file, Fragile(), monkeypatch)
    capsys.readouterr()
    for _ in range(2):
        fine, bad = model.execute([Request(texts(b"a")), Request(texts(b"j"))])
        assert fine.outputs()["label"].tolist() == [[b"odd"]]
        assert bad.error.code == TritonError.INTERNAL
        assert "secret" not in str(bad.error)
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["level"] == "error"
    assert "secret" not in line


def tokens(*ids: int) -> dict[str, np.ndarray]:
    return {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), dtype=np.int64)}


def test_the_raw_engine_runs_a_batch_of_requests_at_once(
    make_artifact: Make, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = SumEngine()
    model = loaded("engine", make_artifact, tokenizer_file, engine, monkeypatch)
    first, second = model.execute([Request(tokens(1, 2)), Request(tokens(1, 3))])
    assert first.outputs()["logits"].tolist() == [[-1.0, 1.0]]
    assert second.outputs()["logits"].tolist() == [[1.0, -1.0]]
    assert engine.batches == [(2, 2)]


def test_a_raw_engine_that_fails_says_so_without_its_reason(
    make_artifact: Make, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded("engine", make_artifact, tokenizer_file, Fragile(), monkeypatch)
    (response,) = model.execute([Request(tokens(13))])
    assert response.error.code == TritonError.INTERNAL
    assert "secret" not in str(response.error)
