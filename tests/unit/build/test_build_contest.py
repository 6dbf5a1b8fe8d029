"""The contest gives every candidate its figures, and leaves out of the long race what can't win or may not serve."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tapchanger_serving.build import contest
from tapchanger_serving.build.candidates import Made, Recipe
from tapchanger_serving.build.contest import Field, hold
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.build.trial import Trial
from tapchanger_serving.build.waited import Scheduled
from tapchanger_serving.engines import EngineSpec
from tests.support.racing import SHAPES, Engine, Opened, Ways, trial


def test_figures_and_who_runs_where(clock: SimpleNamespace, texts: Encoded) -> None:
    torch = Engine(clock, 0, 4e-3)
    quick_start, quick = Engine(clock, 1e-3, 3e-3), Engine(clock, 5e-2, 1e-3)
    on_all, unfaithful = Engine(clock, 0.5, 5e-3), Engine(clock, 0, 1e-4)
    ways: list[Ways] = [{0: on_all, 1: quick_start}, {0: quick}, {0: unfaithful}]
    trials = [
        trial(texts, torch, "onnxruntime", "fp32", ways[0]),
        trial(texts, torch, "openvino", "int8", ways[1]),
        trial(texts, torch, "openvino", "bf16", ways[2]),
        Trial(
            Recipe("openvino", "fp32", lambda _: Made(EngineSpec("openvino", Path("model"), (), "logits"))),
            error="RuntimeError: no",
        ),
    ]
    found = hold(Field(trials, [True, True, False, False], texts, SHAPES), Opened(ways))

    first, second, fallen, broken = found.candidates
    assert found.torch_texts_per_second == pytest.approx(8 / (4e-3 * 512))
    assert second.texts_per_second == pytest.approx(8 / (5e-2 + 1e-3 * 512), rel=1e-3)
    assert first.p50_ms == pytest.approx((1e-3 + 3e-3 * 64) * 1e3)
    assert (first.threads, broken.error, fallen.score) == (1, "RuntimeError: no", None)
    assert second.score == pytest.approx((0.049 / 0.066) ** (1 / 9), abs=1e-4), "behind with one short text only"
    assert (first.memory_mib, first.start_ms, first.size_bytes) == (10.0, 20.0, 1000)
    assert (first.engine, first.options) == ("model", {"INFERENCE_PRECISION_HINT": "f32"})
    assert (broken.engine, broken.options) == (None, None)
    for out in (unfaithful, on_all):
        assert out.closed
        assert out.shapes == {(8, 64), (1, 64), (1, 16)}, "its heat, and no race"
    assert (32, 256) not in quick_start.shapes
    assert second.surface is not None
    assert len(second.surface) == 9
    assert first.surface is not None
    assert 0 < len(first.surface) < 9


def test_a_candidate_s_speed_is_told_by_pytorch_s_in_the_same_turns(clock: SimpleNamespace, texts: Encoded) -> None:
    """The node was twice as slow while the second was tried."""
    ways: list[Ways] = [{0: Engine(clock, 0, 1e-3)}, {0: Engine(clock, 0, 2e-3)}]
    trials = [
        trial(texts, Engine(clock, 0, 4e-3), "openvino", "fp32", ways[0]),
        trial(texts, Engine(clock, 0, 8e-3), "openvino", "int8", ways[1]),
    ]
    found = hold(Field(trials, [True, True], texts, SHAPES), Opened(ways))
    one, other = found.candidates
    assert one.texts_per_second == other.texts_per_second == pytest.approx(4 * found.torch_texts_per_second, rel=1e-3)


def test_nothing_that_passes_makes_no_race(clock: SimpleNamespace, texts: Encoded) -> None:
    ways: list[Ways] = [{0: Engine(clock, 0, 1e-3)}]
    trials = [trial(texts, Engine(clock, 0, 2e-3), "openvino", "int8", ways[0])]
    found = hold(Field(trials, [False], texts, SHAPES), Opened(ways))
    assert found.ways == ()
    assert found.candidates[0].texts_per_second is not None


def test_a_busy_node_is_measured_for_longer_and_not_for_ever(
    clock: SimpleNamespace, texts: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rounds(share: float, engines: int) -> int:
        spent = iter(range(10**6))
        monkeypatch.setattr(contest.Scheduled, "now", lambda: Scheduled(0, next(spent)))
        monkeypatch.setattr(contest.Scheduled, "share_since", lambda *_: share)
        ways: list[Ways] = [{0: Engine(clock, 1.0, 0)} for _ in range(engines)]
        trials = [
            trial(texts, Engine(clock, 0, 2e-3), runtime, "fp32", each)
            for runtime, each in zip(("openvino", "onnxruntime"), ways, strict=False)
        ]
        return len(hold(Field(trials, [True] * engines, texts, SHAPES), Opened(ways)).times[0, 0][1, 16])

    assert (rounds(0.0, 2), rounds(contest.BUSY, 2)) == (7, 21)
    assert rounds(contest.BUSY, 1) == 7, "there is nothing to choose"
