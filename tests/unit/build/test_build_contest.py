"""The contest gives every candidate its figures, and leaves out of the long race what can't win or may not serve."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tapchanger_serving.build import contest
from tapchanger_serving.build.answers import Fidelity
from tapchanger_serving.build.candidates import Recipe
from tapchanger_serving.build.contest import Field, hold
from tapchanger_serving.build.cost import Cost
from tapchanger_serving.build.dataset import Rows
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.build.timing import Effort
from tapchanger_serving.build.trial import Trial
from tapchanger_serving.contract.messages import Shapes
from tapchanger_serving.engines import EngineSpec
from tapchanger_serving.engines.text import Tensors, Tokenizer

SHAPES = Shapes(max_batch_size=32, max_tokens=256)


class Engine:
    """Takes as long per token as it is told, by a clock of its own making."""

    def __init__(self, clock: SimpleNamespace, base: float, per_token: float) -> None:
        self.clock, self.base, self.per_token = clock, base, per_token
        self.shapes: set[tuple[int, ...]] = set()
        self.closed = False

    def run(self, feeds: Tensors) -> Any:
        tensor = next(iter(feeds.values()))
        self.shapes.add(tensor.shape)
        self.clock.now += self.base + self.per_token * tensor.size
        return np.zeros(1, dtype=np.float32)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=0.0)
    inner = contest.timing.interleave

    def interleave(runners: Any, feeds: Tensors, effort: Effort) -> Any:
        return inner(runners, feeds, effort, lambda: clock.now)

    monkeypatch.setattr(contest.timing, "interleave", interleave)
    monkeypatch.setattr(contest, "with_best_threads", lambda make, _: make(0))
    return clock


def trial(runtime: str, precision: str, **engines: Engine) -> Trial:
    spec = EngineSpec(runtime, Path("model"), ("input_ids",), "logits")
    by_threads = {int(name.removeprefix("on")): engine for name, engine in engines.items()}
    made = Recipe(runtime, precision, lambda _: spec)
    return Trial(made, spec, by_threads, Fidelity(agreement=0.99), Cost(10.0, 20.0), 1000)


def test_figures_and_who_runs_where(clock: SimpleNamespace, tokenizer_file: Path) -> None:
    torch = Engine(clock, 0, 4e-3)
    quick_start, quick = Engine(clock, 1e-3, 3e-3), Engine(clock, 5e-2, 1e-3)
    unfaithful = Engine(clock, 0, 1e-4)
    trials = [
        trial("onnxruntime", "fp32", on1=quick_start),
        trial("openvino", "int8", on0=quick),
        trial("openvino", "bf16", on0=unfaithful),
        Trial(Recipe("openvino", "fp32", lambda _: trials[0].opened(0)), error="RuntimeError: no"),
    ]
    tokenizer = Tokenizer(tokenizer_file, ("input_ids",), 256)
    texts = Encoded.of(tokenizer, Rows(texts=("good tea", "bad rain")), 8)
    found = hold(Field(trials, [True, True, False, False], lambda _: torch, texts, SHAPES))

    first, second, fallen, broken = found.candidates
    assert found.torch_texts_per_second == pytest.approx(8 / (4e-3 * 512))
    assert second.texts_per_second == pytest.approx(8 / (5e-2 + 1e-3 * 512), rel=1e-3)
    assert first.p50_ms == pytest.approx((1e-3 + 3e-3 * 64) * 1e3)
    assert (first.threads, broken.error, fallen.score) == (1, "RuntimeError: no", None)
    assert second.score == pytest.approx((0.049 / 0.066) ** (1 / 9), abs=1e-4), "behind with one short text only"
    assert (first.memory_mib, first.start_ms, first.size_bytes) == (10.0, 20.0, 1000)
    assert unfaithful.closed
    assert unfaithful.shapes == {(8, 64), (1, 64)}
    assert (32, 256) not in quick_start.shapes
    assert second.surface is not None
    assert len(second.surface) == 9
    assert first.surface is not None
    assert 0 < len(first.surface) < 9


def test_nothing_that_passes_makes_no_race(clock: SimpleNamespace, tokenizer_file: Path) -> None:
    engine = Engine(clock, 0, 1e-3)
    texts = Encoded.of(Tokenizer(tokenizer_file, ("input_ids",), 256), Rows(texts=("good tea",)), 8)
    field = Field([trial("openvino", "int8", on0=engine)], [False], lambda _: Engine(clock, 0, 2e-3), texts, SHAPES)
    found = hold(field)
    assert found.ways == ()
    assert found.candidates[0].texts_per_second is not None
