"""Timing: turn by turn, within its budget, at points that the shapes allow."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from tapchanger_serving.build import timing
from tapchanger_serving.build.dataset import Rows
from tapchanger_serving.build.textset import Encoded
from tapchanger_serving.build.timing import Effort
from tapchanger_serving.contract.messages import Shapes
from tapchanger_serving.engines.text import Tensors, Tokenizer


class Machine:
    """A clock that engines move forward."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ran: list[str] = []

    def runner(self, name: str, seconds: float) -> Callable[[Tensors], None]:
        def run(feeds: Tensors) -> None:
            self.now += seconds
            self.ran.append(name)

        return run

    def clock(self) -> float:
        return self.now


def test_every_round_runs_every_engine_once() -> None:
    machine = Machine()
    runners = {"a": machine.runner("a", 0.1), "b": machine.runner("b", 0.2), "c": machine.runner("c", 0.3)}
    taken = timing.interleave(runners, {}, Effort(min_rounds=4, max_rounds=4, seconds=0), machine.clock)
    assert {name: [round(x, 9) for x in seconds] for name, seconds in taken.items()} == {
        "a": [0.1] * 4,
        "b": [0.2] * 4,
        "c": [0.3] * 4,
    }
    measured = machine.ran[6:]
    rounds = [measured[index : index + 3] for index in range(0, 12, 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in rounds)
    assert len({tuple(turn) for turn in rounds}) > 1


@pytest.mark.parametrize(
    ("cold", "warm", "calls", "counted"),
    [
        (0.03, 0.02, 1, [0.03]),
        (0.02, 0.01, 2, [0.01]),
        (0.004, 0.001, 6, [0.001] * 4),
        (0.003, 0.0025, 6, [0.0025] * 4),
    ],
    ids=["long", "middling", "short", "hardly shorter"],
)
def test_short_calls_count_once_the_caches_are_warm(cold: float, warm: float, calls: int, counted: list[float]) -> None:
    machine = Machine()
    warm_up = 2

    def run(feeds: Tensors) -> None:
        machine.now += cold if len(machine.ran) <= warm_up else warm
        machine.ran.append("run")

    taken = timing.interleave({"run": run}, {}, Effort(1, 1, 0), machine.clock)
    assert [round(value, 9) for value in taken["run"]] == counted
    assert len(machine.ran) == warm_up + calls


def test_noise_that_comes_and_goes_hits_all_engines() -> None:
    machine, noise = Machine(), count()

    def noisy(seconds: float) -> Callable[[Tensors], None]:
        def run(feeds: Tensors) -> None:
            machine.now += seconds * (10 if next(noise) // 40 % 2 else 1)

        return run

    taken = timing.interleave({"slow": noisy(0.2), "fast": noisy(0.1)}, {}, Effort(30, 30, 0), machine.clock)
    assert timing.median(taken["slow"]) > timing.median(taken["fast"])


@pytest.mark.parametrize(
    ("effort", "rounds"),
    [(Effort(3, 100, 1.0), 3), (Effort(3, 100, 5.0), 5), (Effort(3, 4, 5.0), 4)],
    ids=["at least", "until the time is over", "at most"],
)
def test_the_effort_is_bounded(effort: Effort, rounds: int) -> None:
    machine = Machine()
    assert len(timing.interleave({"a": machine.runner("a", 1.0)}, {}, effort, machine.clock)["a"]) == rounds


def test_what_is_far_behind_leaves_after_the_least_rounds() -> None:
    machine = Machine()
    runners = {
        "fast": machine.runner("fast", 0.1),
        "near": machine.runner("near", 0.15),
        "far": machine.runner("far", 0.2),
    }
    taken = timing.interleave(runners, {}, Effort(3, 10, 100, margin=1.6), machine.clock)
    assert {name: len(seconds) for name, seconds in taken.items()} == {"fast": 10, "near": 10, "far": 3}


def test_a_slow_engine_is_warmed_up_once() -> None:
    machine = Machine()
    timing.interleave(
        {"a": machine.runner("a", 2.0), "b": machine.runner("b", 0.1)}, {}, Effort(1, 1, 0), machine.clock
    )
    assert machine.ran[:3] == ["a", "b", "b"]


def test_noise_moves_the_lower_quartile_less_than_the_median() -> None:
    seconds = [0.1] * 40 + [0.5] * 60
    assert (timing.undisturbed(seconds), timing.median(seconds)) == (pytest.approx(0.1), 0.5)


def test_points_stay_within_the_shapes() -> None:
    assert timing.reference_point(Shapes()) == (8, 64)
    assert timing.reference_point(Shapes(max_batch_size=4, max_tokens=32)) == (4, 32)
    small = timing.grid(Shapes(max_batch_size=4, max_tokens=32))
    assert small == ((1, 16), (1, 32), (4, 16), (4, 32))
    assert set(timing.grid(Shapes())) == {(batch, tokens) for batch in (1, 8, 32) for tokens in (16, 64, 256)}


def test_quantiles_are_the_median_and_the_nearest_rank() -> None:
    point = timing.timing(8, 64, [index / 1000 for index in range(1, 101)])
    assert (point.p50_ms, point.p99_ms) == (50.5, 99.0)
    assert timing.timing(1, 16, [0.003]).p99_ms == 3.0


def test_a_full_batch_has_real_ids_and_no_padding(tokenizer_file: Path) -> None:
    tokenizer = Tokenizer(tokenizer_file, ("input_ids", "attention_mask", "token_type_ids"), 64)
    feeds = timing.full_batch(Encoded.of(tokenizer, Rows(texts=("good tea", "bad rain")), 8), 4, 10)
    assert {name: tensor.shape for name, tensor in feeds.items()} == dict.fromkeys(tokenizer.inputs, (4, 10))
    assert feeds["input_ids"].max() < 10
    assert feeds["attention_mask"].all()
    assert all(tensor.dtype == np.int64 for tensor in feeds.values())
